/** Teaches the server's model one label, and follows the lesson line by line. */

import { ApiError, notUnderstood, refusal, respond } from "./api.js";

const BROKEN = "The connection broke during the lesson. Your marks are still here, so you can teach again.";

/**
 * @param {string} model its name
 * @param {File[]} yes photos with `label`
 * @param {File[]} no photos without it
 * @param {(step: {step: string, done?: number, of?: number}) => void} onStep is called as the lesson goes on
 * @returns {Promise<object>} the answer of /v1/teach
 */
export async function teach(model, label, { yes, no }, signal, onStep) {
  const body = new FormData();
  body.append("label", label);
  for (const file of yes) body.append("yes", file, file.name);
  for (const file of no) body.append("no", file, file.name);
  const headers = { Accept: "application/x-ndjson" };
  const path = `v1/teach?${new URLSearchParams({ model })}`;
  const response = await respond(path, { method: "POST", body, headers, signal });
  if (!response.ok) throw refusal(await response.json().catch(() => null), response);
  for await (const line of linesOf(response, signal)) {
    if (line.problem) throw refusal(line.problem, response);
    if (line.result) return line.result;
    onStep(line);
  }
  throw new ApiError(BROKEN);
}

/** Reads JSON lines while they arrive. */
async function* linesOf(response, signal) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      throw signal.aborted ? error : new ApiError(BROKEN);
    });
    if (done) return;
    const lines = (text + value).split("\n");
    text = lines.pop();
    for (const line of lines) if (line.trim()) yield parsed(line, response);
  }
}

function parsed(line, response) {
  try {
    return JSON.parse(line);
  } catch {
    throw notUnderstood(response);
  }
}
