/**
 * Small pictures of the photos, made once, a few at a time, for cards that come near the window. Five hundred photos
 * of twelve megapixels would need twenty gigabytes as they are.
 */

import { createQueue } from "./queue.js";

const LONGER_SIDE = 720; // pixels; twice what a card shows, for dense screens
const DECODED_AT_ONCE = 2;
const NEARBY = "800px 0px";

const enqueue = createQueue(DECODED_AT_ONCE);
const wanted = new WeakMap(); // image element -> its file and what to do if the browser cannot show it
const observer = new IntersectionObserver(showNearby, { rootMargin: NEARBY });

/** Fill `image` with `file` once it comes near the window; `onFailure` if the browser cannot read the format. */
export function showThumbnail(image, file, onFailure) {
  wanted.set(image, { file, onFailure });
  observer.observe(image);
}

export function forgetThumbnail(image) {
  wanted.delete(image);
  observer.unobserve(image);
}

function showNearby(entries) {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    observer.unobserve(target);
    enqueue(() => fill(target));
  }
}

async function fill(image) {
  if (!wanted.has(image)) return; // removed meanwhile
  const { file, onFailure } = wanted.get(image);
  try {
    image.src = URL.createObjectURL(await shrink(file));
    await image.decode();
  } catch {
    onFailure();
  } finally {
    if (image.src) URL.revokeObjectURL(image.src); // what is shown by now stays shown
    wanted.delete(image);
  }
}

/** @returns {Promise<Blob>} upright, as the browser turns it by its EXIF */
async function shrink(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, LONGER_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no blob"))), "image/webp", 0.85);
  });
}
