/** One photo: its file, the server's answer, and its state (queued, sending, waiting, done, failed). */

import { ApiError, embedPhoto, explainPhoto, tagPhoto } from "./api.js";
import { Card } from "./card.js";
import { patiently } from "./patience.js";
import { judge } from "./thresholds.js";
import { sayWhere } from "./where.js";

const EXPLAINED_AT_ONCE = { threshold: 0, top_k: 24 }; // the highest scores; of 1,000 labels all would be a megabyte
const TAGS_SPOKEN = 12;

export class Photo {
  constructor(file) {
    this.file = file;
    this.answer = null;
    this.judged = null; // the answer with the current thresholds
    this.explanations = new Map(); // by what was asked for: a promise, once a person has pointed at such a label
    this.marks = new Map(); // label -> whether a person says that the photo has it
    this.embeddings = new Map(); // label -> its vector, once other photos were compared with it
    this.pointed = null;
    this.pinned = null;
    this.oldestVersion = 0; // of an answer; other workers of the server may still have an older one
    this.aborter = new AbortController();
    this.card = new Card(file);
    this.show("queued", "Waiting for its turn");
  }

  get isRemoved() {
    return this.aborter.signal.aborted;
  }

  show(state, status) {
    this.state = state;
    this.card.show(state, status);
  }

  /** Sends the photo and shows the answer; never throws. Resolves to a sentence to announce, or null if removed. */
  async run(model, search) {
    const { signal } = this.aborter;
    if (signal.aborted) return null;
    const ask = () => (this.show("sending", "Tagging…"), this.tag(model, signal));
    try {
      const answer = await patiently(ask, { signal, onWait: (sentence) => this.show("waiting", sentence) });
      if (answer.version !== this.answer?.version) this.forget();
      this.answer = answer;
      return this.showAnswer(search);
    } catch (error) {
      return signal.aborted ? null : this.showError(error);
    }
  }

  async tag(model, signal) {
    const answer = await tagPhoto(this.file, model, signal);
    if (answer.version < this.oldestVersion) {
      throw new ApiError(`The server still loads version ${this.oldestVersion}.`, { reason: "busy" });
    }
    return answer;
  }

  /** Forgets what another version said about the photo. */
  forget() {
    this.explanations.clear();
    this.embeddings.clear();
  }

  showAnswer(search) {
    this.judge();
    this.card.showLabels(this.judged, search);
    const { tags } = this.judged;
    const names = tags.slice(0, TAGS_SPOKEN).map(({ label, score }) => `${label} ${score?.toFixed(2) ?? ""}`.trim());
    if (tags.length > TAGS_SPOKEN) names.push(`and ${tags.length - TAGS_SPOKEN} more`);
    return `${this.file.name}: ${names.join(", ") || "no label reaches its threshold"}.`;
  }

  judge() {
    this.judged = judge(this.answer, this.marks);
    const { model, version, tags } = this.judged;
    const remark = tags.length ? "" : ": no label reaches its threshold.";
    this.show("done", `Tagged by ${model}, version ${version}${remark}`);
    if (this.judged.notes) this.card.showDetail(this.judged.notes.join(" "));
  }

  showLabels(search) {
    this.card.showLabels(this.judged, search);
  }

  showThresholds() {
    this.judge();
    this.card.showThresholds(this.judged);
  }

  showMarks() {
    if (this.state === "done") this.showThresholds();
  }

  showError(error) {
    const sentence = error instanceof ApiError ? error.message : `The page failed: ${error.message}`;
    this.show("failed", sentence);
    if (error.requestId) this.card.showDetail(`Request ${error.requestId}`);
    return `${this.file.name} failed: ${sentence}`;
  }

  /** Shows where the model looked for `label` until the next call; null shows no label. */
  point(label) {
    this.pointed = label;
    return this.showWhere();
  }

  /** Keeps `label` shown, or lets it go if it is kept already. Returns whether it is kept. */
  pin(label) {
    this.pinned = label === this.pinned ? null : label;
    this.card.press(this.pinned);
    if (this.pinned === null) this.point(null);
    return this.pinned !== null;
  }

  /** Resolves to a sentence to announce, or null if another label is wanted by then. */
  async showWhere() {
    const label = this.pointed ?? this.pinned;
    const isWanted = () => label === (this.pointed ?? this.pinned) && !this.aborter.signal.aborted;
    if (label === null) return this.card.say("");
    try {
      const explained = await this.explain(label);
      if (!isWanted()) return null;
      const { attention } = entryOf(explained, label);
      const where = sayWhere(explained, attention);
      this.card.showWhere(explained, attention, `${label}: ${where}`); // brief, because it covers part of the photo
      return `${label}: the model looked ${where}.`;
    } catch (error) {
      return isWanted() ? this.card.say(error.message) : null;
    }
  }

  /** Asks once for the labels with the highest scores, and once for each other label. */
  async explain(label) {
    const highest = this.answer.scores.slice(0, EXPLAINED_AT_ONCE.top_k);
    const explained = highest.some((tag) => tag.label === label) ? await this.ask(EXPLAINED_AT_ONCE) : null;
    // A score may differ in its last digit from that of the first answer, and then another label may be the 24th.
    return explained && entryOf(explained, label) ? explained : this.ask({ labels: label });
  }

  /** Asks again for the same only if that failed for a reason other than the photo or the model. */
  ask(which) {
    const key = JSON.stringify(which);
    if (!this.explanations.has(key)) {
      const { signal } = this.aborter;
      const onWait = (sentence) => this.card.say(sentence);
      onWait("Finding where the model looked…");
      const asked = patiently(() => explainPhoto(this.file, this.answer, which, signal), { signal, onWait });
      this.explanations.set(key, asked);
      asked.catch(({ status }) => {
        if (!(status >= 400 && status < 500)) this.explanations.delete(key);
      });
    }
    return this.explanations.get(key);
  }

  hasTag(label) {
    return this.judged.tags.some((tag) => tag.label === label);
  }

  /** Returns the vector of `label`, or undefined until `embed` has asked for it. */
  embeddingOf(label) {
    return this.embeddings.get(label);
  }

  async embed(label, aborted, onWait) {
    const { answer } = this;
    const signal = AbortSignal.any([aborted, this.aborter.signal]);
    const vector = await patiently(() => embedPhoto(this.file, answer, label, signal), { signal, onWait });
    if (answer.version === this.answer.version) this.embeddings.set(label, vector);
  }

  remove() {
    this.aborter.abort();
    this.card.remove();
  }
}

function entryOf({ labels }, label) {
  return labels.find((entry) => entry.label === label);
}
