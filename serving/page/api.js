/** Calls the gateway's HTTP API. Every failure becomes one sentence that the page can show. */

import { askForKey, keyHeaders } from "./key.js";

/** The server is only busy, or a proxy in front of it waits for it. */
const BUSY = new Set([429, 502, 503]);

/** `reason` is "refused" if this request is at fault. "busy", "away" and "key" pass, so a later try may succeed. */
export class ApiError extends Error {
  constructor(sentence, { reason = "refused", status = 0, requestId = null, retryAfter = 0 } = {}) {
    super(sentence);
    this.reason = reason;
    this.status = status;
    this.requestId = requestId;
    this.retryAfter = retryAfter; // seconds; 0 if the server stated none
  }
}

/**
 * Returns what /v1/models says of each model, and what this page may do besides tagging: "teach", "feedback".
 * @returns {Promise<{models: object[], may: string[]}>}
 */
export async function fetchModels() {
  const { response, answer } = await request("v1/models");
  const isModel = (each) => typeof each?.name === "string" && Array.isArray(each.labels);
  if (!answer.models?.every?.(isModel)) throw notUnderstood(response);
  return { models: answer.models, may: answer.may ?? [] };
}

/** Tags one file; without a model name the server uses its default. The answer has every label's score, tag or not. */
export async function tagPhoto(file, model, signal) {
  const { response, answer } = await send(file, "v1/tag", { scores: "all", ...(model && { model }) }, signal);
  if (!Array.isArray(answer.tags) || !Array.isArray(answer.scores)) throw notUnderstood(response);
  return answer;
}

/** Returns where the version that tagged the file looked for the labels that `which`, a part of the query, asks for. */
export async function explainPhoto(file, { model, version }, which, signal) {
  const { response, answer } = await send(file, "v1/explain", { model, version, ...which }, signal);
  if (!Array.isArray(answer.labels) || !Array.isArray(answer.grid?.box)) throw notUnderstood(response);
  return answer;
}

/** Returns the embedding of `label` in the file, as the version that tagged it has it: a vector of length 1. */
export async function embedPhoto(file, { model, version }, label, signal) {
  const { response, answer } = await send(file, "v1/embed", { model, version, labels: label }, signal);
  if (!Array.isArray(answer.embeddings?.[0]?.values)) throw notUnderstood(response);
  return Float32Array.from(answer.embeddings[0].values);
}

/** Publishes the next version of `model`, equal to its earlier `version`. */
export async function rollBack(model, version) {
  const path = `v1/models/${encodeURIComponent(model)}/rollback?${new URLSearchParams({ version })}`;
  return (await request(path, { method: "POST" })).answer;
}

/**
 * Tells the server what a person says about the file: `yes` and `no` list labels. The same `key` counts only once.
 * Without a version, as of a photo that has no answer yet, the server notes its newest.
 */
export async function sendFeedback(file, { model, version }, { yes, no }, key) {
  const named = { ...(model && { model }), ...(version && { version }), yes: yes.join(","), no: no.join(",") };
  const query = Object.fromEntries(Object.entries(named).filter(([, text]) => text !== ""));
  return (await send(file, "v1/feedback", query, undefined, { "Idempotency-Key": key })).answer;
}

function send(file, path, query, signal, more = {}) {
  // The browser guesses the type from the file's name. After a wrong guess the server must still look at the bytes.
  const type = file.type.startsWith("image/") ? file.type : "application/octet-stream";
  const headers = { "Content-Type": type, ...more };
  return request(`${path}?${new URLSearchParams(query)}`, { method: "POST", body: file, headers, signal });
}

async function request(path, options = {}) {
  const response = await respond(path, options);
  const answer = await response.json().catch(() => null);
  if (answer === null || typeof answer !== "object") throw notUnderstood(response);
  if (!response.ok) throw refusal(answer, response);
  return { response, answer };
}

/** Resolves to the server's response, whatever its status, unless it asks for a key. */
export async function respond(path, options) {
  const headers = { ...options.headers, ...keyHeaders() };
  const response = await fetch(path, { ...options, headers }).catch(async (error) => {
    throw options.signal?.aborted ? error : await whyNoAnswer(options.body);
  });
  if (response.status === 401) throw new ApiError(askForKey(headers.Authorization), { reason: "key" });
  return response;
}

/** fetch fails alike for a dead server, a vanished file and a folder. Only reading the files tells them apart. */
async function whyNoAnswer(body) {
  const files = body instanceof FormData ? [...body.values()].filter((value) => value instanceof File) : [body];
  for (const file of files) {
    try {
      await file?.slice(0, 1).arrayBuffer();
    } catch {
      const named = body instanceof FormData ? `The file ${file.name}` : "This file";
      return new ApiError(`${named} cannot be read: it was moved or changed, or it is a folder.`);
    }
  }
  return new ApiError(`The server at ${location.host} cannot be reached.`, { reason: "away" });
}

/** What the server's `problem` says. */
export function refusal(problem, response) {
  if (typeof problem?.detail !== "string") return notUnderstood(response);
  return new ApiError(problem.detail, { ...metadataOf(response), requestId: problem.request_id });
}

export function notUnderstood(response) {
  const sentence = `The server at ${location.host} sent an answer that this page does not understand`;
  return new ApiError(`${sentence} (status ${response.status}).`, metadataOf(response));
}

function metadataOf({ status, headers }) {
  const retryAfter = parseInt(headers.get("Retry-After"), 10) || 0;
  return { reason: BUSY.has(status) ? "busy" : "refused", status, retryAfter, requestId: headers.get("X-Request-ID") };
}
