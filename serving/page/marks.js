/** Marks: what a person says a photo has, or has not. They stay in the page, with the photo. */

const listeners = [];

/** Calls `then(photo, label, has)` whenever a mark has changed; `has` is null if it was taken back. */
export function listenForMarks(then) {
  listeners.push(then);
}

/** Says whether `photo` has what `label` names: true, false, or null for no answer. */
export function mark(photo, label, has) {
  if ((photo.marks.get(label) ?? null) === has) return;
  if (has === null) photo.marks.delete(label);
  else photo.marks.set(label, has);
  photo.showMarks();
  for (const then of listeners) then(photo, label, has);
}

/** Returns those of `photos` that are marked as having `label`, and those marked as not having it. */
export function markedWith(label, photos) {
  const marked = (has) => photos.filter(({ marks }) => marks.get(label) === has);
  return { yes: marked(true), no: marked(false) };
}
