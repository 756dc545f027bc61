/** Sends what a person marks or corrects to the server, which keeps it. Nothing is lost while the page is open. */

import { sendFeedback } from "./api.js";
import { byId, counted, sleep } from "./dom.js";
import { listenForMarks } from "./marks.js";
import { patiently } from "./patience.js";
import { enqueueRequest } from "./queue.js";

const SETTLE = 3; // seconds in which a slip can be taken back, before the server keeps it

let isOn = false;
let model = null; // of photos that have no answer yet
let failed = []; // actions to send again
let reason = ""; // why the last one failed
const collecting = new Map(); // photo -> its next action: { photo, answer, marks, key }, about that answer
const sending = new Set(); // actions
const kept = new Map(); // photo -> the marks that the server has

export function listenForFeedback() {
  listenForMarks((photo, label, has) => isOn && collect(photo, label, has));
  byId("kept-retry").addEventListener("click", () => (byId("kept").focus(), failed.splice(0).forEach(send)));
  addEventListener("beforeunload", (event) => isPending() && event.preventDefault());
}

/** Says whether the server takes corrections, and which model they are about. */
export function keepFeedback(isTaken, name) {
  isOn = isTaken;
  model = name;
  show();
}

/** Whether the server was told what the photo has, so that only the opposite changes its mind. */
export function wasTold(photo, label) {
  const isIn = ({ photo: other, marks }) => other === photo && marks.has(label);
  return kept.get(photo)?.has(label) || [...sending, ...failed].some(isIn);
}

function isPending() {
  return collecting.size + sending.size + failed.length > 0;
}

/** Several marks of one photo soon after each other are one action, so one request. */
async function collect(photo, label, has) {
  const action = { photo, answer: photo.answer, marks: new Map(collecting.get(photo)?.marks), key: newKey() };
  if (has === null) action.marks.delete(label);
  else action.marks.set(label, has);
  collecting.set(photo, action);
  do await sleep(SETTLE); // and a later answer does not overtake one on its way
  while ([...sending].some(({ photo: other }) => other === photo));
  if (collecting.get(photo) !== action) return; // there was another mark
  collecting.delete(photo);
  if (action.marks.size) send(action);
  else show();
}

function send(action) {
  replaceFailed(action);
  sending.add(action);
  show();
  enqueueRequest(async () => {
    const { photo, answer, marks, key } = action;
    const said = (wanted) => [...marks].filter(([, has]) => has === wanted).map(([label]) => label);
    const ask = () => sendFeedback(photo.file, answer ?? { model }, { yes: said(true), no: said(false) }, key);
    try {
      await patiently(ask, { onWait: (sentence) => (byId("kept-status").textContent = sentence) });
      kept.set(photo, new Map([...(kept.get(photo) ?? []), ...marks]));
    } catch (error) {
      failed.push(action);
      reason = error.message;
    }
    sending.delete(action);
    show();
  });
}

/** What could not be sent, and was answered otherwise since, is not to be sent any more. */
function replaceFailed({ photo, marks }) {
  const isOld = (action) => action.photo === photo && [...action.marks.keys()].some((label) => marks.has(label));
  const left = (action) => new Map([...action.marks].filter(([label]) => !marks.has(label)));
  failed = failed.map((action) => (isOld(action) ? { ...action, marks: left(action), key: newKey() } : action));
  failed = failed.filter((action) => action.marks.size);
}

function show() {
  const count = failed.reduce((sum, { marks }) => sum + marks.size, 0);
  const answers = [...kept].flatMap(([photo, marks]) => [...marks.keys()].map((label) => photo.marks.has(label)));
  const takenBack = answers.filter((isThere) => !isThere).length;
  const lines = [];
  if (answers.length) lines.push(`The server keeps ${counted(answers.length, "answer")} of yours.`);
  if (takenBack) lines.push(`You took ${takenBack} of them back too late; only the opposite answer changes it.`);
  if (count) lines.push(`${counted(count, "answer")} could not be sent: ${reason}`);
  if (sending.size) lines.push("Sending…");
  byId("kept").hidden = !isOn || lines.length === 0;
  byId("kept").classList.toggle("failed", count > 0);
  byId("kept-status").textContent = lines.join(" ");
  byId("kept-retry").hidden = count === 0;
}

/** A random key. crypto.randomUUID exists only on https and localhost. */
function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
