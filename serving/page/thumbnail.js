/**
 * Small pictures of the photos, each made once, one after the other. Five hundred photos of twelve megapixels would
 * need twenty gigabytes as they are.
 */

import { createQueue } from "./queue.js";

const LONGER_SIDE = 720; // pixels; twice what a card shows, for dense screens

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

  /** Decoded pictures take thirty times the memory of the small file that is kept. */
  hide() {
    this.isWanted = false;
    this.image.removeAttribute("src");
    this.giveUp?.();
  }

  async fill() {
    if (!this.isWanted || this.image.hasAttribute("src")) return; // gone meanwhile, or back already
    let url = null;
    try {
      this.blob ??= await shrink(this.file);
      if (!this.isWanted) return;
      url = URL.createObjectURL(this.blob);
      this.image.src = url;
      const hidden = new Promise((resolve) => (this.giveUp = resolve));
      await Promise.race([this.image.decode(), hidden]); // Chromium may never settle what lost its picture meanwhile
    } catch {
      if (this.isWanted) this.onFailure();
    } finally {
      if (url) URL.revokeObjectURL(url); // what is shown by now stays shown
    }
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
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/webp", 0.85));
  canvas.width = 0; // gives the pixels back now, not when the garbage is collected
  if (blob === null) throw new Error("This browser makes no picture of the canvas.");
  return blob;
}
