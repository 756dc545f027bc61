/** Starts the API reference. The page's security policy allows no inline scripts, so this is a separate file. */

window.SwaggerUIBundle({ url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true });
