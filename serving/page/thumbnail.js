/**
 * Makes small pictures of the photos, one after the other, each once. Five hundred photos of twelve megapixels would
 * need twenty gigabytes in full size.
 */

import { createQueue } from "./queue.js";

const LONGER_SIDE = 720; // pixels; twice the size on the card, for high-density screens

const enqueue = createQueue(1);

export class Thumbnail {
  /** `image` is the element to fill; `onFailure` is called if the browser cannot read the format of `file`. */
  constructor(image, file, onFailure) {
    Object.assign(this, { image, file, onFailure, blob: null, isWanted: false });
  }

  show() {
    this.isWanted = true;
    enqueue(() => this.fill());
  }

  /** Frees the decoded picture and keeps the small file, which needs a thirtieth of the memory. */
  hide() {
    this.isWanted = false;
    this.image.removeAttribute("src");
    this.giveUp?.();
  }

  async fill() {
    if (!this.isWanted || this.image.hasAttribute("src")) return; // hidden in the meantime, or shown already
    let url = null;
    try {
      this.blob ??= await shrink(this.file);
      if (!this.isWanted) return;
      url = URL.createObjectURL(this.blob);
      this.image.src = url;
      const hidden = new Promise((resolve) => (this.giveUp = resolve));
      await Promise.race([this.image.decode(), hidden]); // in Chromium, decode() may never settle once `src` is removed
    } catch {
      if (this.isWanted) this.onFailure();
    } finally {
      if (url) URL.revokeObjectURL(url); // a picture that is already shown stays
    }
  }
}

/** @returns {Promise<Blob>} upright: the browser applies the EXIF orientation */
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
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/webp", 0.85));
  canvas.width = 0; // frees the pixels now, before garbage collection
  if (blob === null) throw new Error("This browser could not encode the picture.");
  return blob;
}
