/** The gateway's HTTP API, with every way it can fail said in one sentence for the person at the page. */

import { askForKey, keyHeaders } from "./key.js";

export class ApiError extends Error {
  constructor(sentence, { requestId = null, retryAfter = NaN } = {}) {
    super(sentence);
    this.requestId = requestId;
    this.retryAfter = retryAfter; // seconds; NaN when the server named no time
  }
}

/** @returns {Promise<Array<{name: string, labels: string[]}>>} */
export async function fetchModels() {
  const { response, answer } = await request("/v1/models");
  if (!Array.isArray(answer.models)) throw notUnderstood(response);
  return answer.models;
}

/** Tag one file; without a model name the server takes its default. */
export async function tagPhoto(file, model, signal) {
  const query = new URLSearchParams({ scores: "all", ...(model && { model }) });
  // The type is only a guess from the file's name: a wrong guess must not keep the server from looking at the bytes.
  const type = file.type.startsWith("image/") ? file.type : "application/octet-stream";
  const headers = { "Content-Type": type };
  const { response, answer } = await request(`/v1/tag?${query}`, { method: "POST", body: file, headers, signal });
  if (!Array.isArray(answer.tags) || !Array.isArray(answer.scores)) throw notUnderstood(response);
  return answer;
}

async function request(path, options = {}) {
  const headers = { ...options.headers, ...keyHeaders() };
  const response = await fetch(path, { ...options, headers }).catch(async (error) => {
    throw options.signal?.aborted ? error : new ApiError(await whyNothingCame(options.body));
  });
  if (response.status === 401) throw new ApiError(askForKey(headers.Authorization));
  const answer = await response.json().catch(() => null);
  if (answer === null || typeof answer !== "object") throw notUnderstood(response);
  if (!response.ok) throw refusal(response, answer);
  return { response, answer };
}

/** fetch fails alike for a dead server and for a file that vanished or is a folder; only reading the file tells. */
async function whyNothingCame(file) {
  try {
    await file?.slice(0, 1).arrayBuffer();
  } catch {
    return "This file cannot be read: it was moved, changed, or is a folder.";
  }
  return `The server at ${location.host} cannot be reached. It may have stopped, or the connection is down.`;
}

function refusal(response, problem) {
  if (typeof problem.detail !== "string") return notUnderstood(response);
  const mayRetry = response.status === 429 || response.status === 503;
  const retryAfter = mayRetry ? parseInt(response.headers.get("Retry-After"), 10) : NaN;
  return new ApiError(problem.detail, { requestId: problem.request_id, retryAfter });
}

function notUnderstood(response) {
  const sentence = `The server at ${location.host} gave an answer that this page does not understand`;
  const requestId = response.headers.get("X-Request-ID");
  return new ApiError(`${sentence} (status ${response.status}).`, { requestId });
}
