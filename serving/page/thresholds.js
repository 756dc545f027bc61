/** Thresholds: the model's own, or those that a person sets with the sliders. The server is not asked again. */

const slid = new Map(); // model name -> Map of label -> threshold

export function slidThresholds(model) {
  return slid.get(model) ?? new Map();
}

export function slideThreshold(model, label, threshold) {
  slid.set(model, slidThresholds(model).set(label, threshold));
}

export function resetThresholds(model) {
  slid.delete(model);
}

/** The rule of labelwise/tagging.py, for scores that the server has rounded and sorted. */
export function isTag({ score, threshold }) {
  return score >= threshold;
}

/** Returns the server's answer as it would be with the current thresholds. Copies only scores whose threshold differs. */
export function judge(answer) {
  const ours = slidThresholds(answer.model);
  const slid = (tag) => (ours.has(tag.label) ? { ...tag, threshold: ours.get(tag.label) } : tag);
  const scores = ours.size ? answer.scores.map(slid) : answer.scores;
  return { ...answer, scores, tags: scores.filter(isTag) };
}
