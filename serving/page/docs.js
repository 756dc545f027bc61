/** The API's reference; a file of its own, since the page's security policy allows no script inside the HTML. */

window.SwaggerUIBundle({ url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true });
