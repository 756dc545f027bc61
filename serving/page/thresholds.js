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

/**
 * Returns the server's answer as it would be with the current thresholds, and with the tags that a person has added or
 * removed: `marks` maps labels to whether the photo has them. Copies only scores whose threshold differs.
 */
export function judge(answer, marks = new Map()) {
  const ours = slidThresholds(answer.model);
  const slid = (tag) => (ours.has(tag.label) ? { ...tag, threshold: ours.get(tag.label) } : tag);
  const scores = ours.size ? answer.scores.map(slid) : answer.scores;
  const tags = scores.filter(isTag);
  return { ...answer, scores, ...(marks.size ? correct(tags, scores, marks) : { tags }) };
}

/** `removed` names the tags that a person took away. A word that the model lacks becomes a tag without a score. */
function correct(tags, scores, marks) {
  const isOurs = new Set(tags.map(({ label }) => label));
  const added = [...marks.keys()].filter((label) => marks.get(label) && !isOurs.has(label));
  const scoreOf = new Map(added.length ? scores.map((tag) => [tag.label, tag]) : []);
  return {
    tags: [
      ...tags.filter(({ label }) => marks.get(label) !== false),
      ...added.map((label) => ({ label, ...scoreOf.get(label), by: "person" })),
    ],
    removed: tags.filter(({ label }) => marks.get(label) === false).map(({ label }) => label),
  };
}
