/** The gateway's HTTP API, with every way it can fail said in one sentence for the person at the page. */

import { askForKey, keyHeaders } from "./key.js";

/** Statuses of a server that is only busy, or has something in front of it that waits for it. */
const BUSY = new Set([429, 502, 503]);

/** `reason` says whose fault it is: "refused" is this request's; "busy", "away" and "key" pass. */
export class ApiError extends Error {
  constructor(sentence, { reason = "refused", status = 0, requestId = null, retryAfter = 0 } = {}) {
    super(sentence);
    this.reason = reason;
    this.status = status;
    this.requestId = requestId;
    this.retryAfter = retryAfter; // seconds; 0 when the server named no time
  }
}

/** @returns {Promise<Array<{name: string, labels: string[], thresholds: Object<string, number>}>>} */
export async function fetchModels() {
  const { response, answer } = await request("v1/models");
  if (!Array.isArray(answer.models)) throw notUnderstood(response);
  return answer.models;
}

/** Tag one file; without a model name the server takes its default. Every label's score comes, tag or not. */
export async function tagPhoto(file, model, signal) {
  const { response, answer } = await send(file, "v1/tag", { scores: "all", ...(model && { model }) }, signal);
  if (!Array.isArray(answer.tags) || !Array.isArray(answer.scores)) throw notUnderstood(response);
  return answer;
}

/** Where in one file the version that tagged it looked for each label; a threshold of 0 asks for all of them. */
export async function explainPhoto(file, { model, version }, signal) {
  const { response, answer } = await send(file, "v1/explain", { model, version, threshold: 0 }, signal);
  if (!Array.isArray(answer.labels) || !Array.isArray(answer.grid?.box)) throw notUnderstood(response);
  return answer;
}

function send(file, path, query, signal) {
  // The type is only a guess from the file's name: a wrong guess must not keep the server from looking at the bytes.
  const type = file.type.startsWith("image/") ? file.type : "application/octet-stream";
  const headers = { "Content-Type": type };
  return request(`${path}?${new URLSearchParams(query)}`, { method: "POST", body: file, headers, signal });
}

async function request(path, options = {}) {
  const headers = { ...options.headers, ...keyHeaders() };
  const response = await fetch(path, { ...options, headers }).catch(async (error) => {
    throw options.signal?.aborted ? error : await whyNothingCame(options.body);
  });
  if (response.status === 401) throw new ApiError(askForKey(headers.Authorization), { reason: "key" });
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
    return new ApiError("This file cannot be read: it was moved, changed, or is a folder.");
  }
  return new ApiError(`The server at ${location.host} cannot be reached.`, { reason: "away" });
}

function refusal(response, problem) {
  if (typeof problem.detail !== "string") return notUnderstood(response);
  return new ApiError(problem.detail, { ...told(response), requestId: problem.request_id });
}

function notUnderstood(response) {
  const sentence = `The server at ${location.host} gave an answer that this page does not understand`;
  return new ApiError(`${sentence} (status ${response.status}).`, told(response));
}

function told({ status, headers }) {
  const retryAfter = parseInt(headers.get("Retry-After"), 10) || 0;
  return { reason: BUSY.has(status) ? "busy" : "refused", status, retryAfter, requestId: headers.get("X-Request-ID") };
}
