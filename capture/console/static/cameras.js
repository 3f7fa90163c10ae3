// Live pictures: one large, the others small; a click or its key makes another one large.

import { $, el } from "./dom.js";

const SOONEST_MS = 60;
const AGAIN_MS = 500;

export class Cameras {
  constructor() {
    this.feeds = new Map();
    this.chosen = sessionStorage.getItem("understudy-camera") ?? "";
  }

  show(names, looking) {
    this.looking = looking;
    for (const name of names) if (!this.feeds.has(name)) this.open(name);
    for (const [name, feed] of this.feeds) if (!names.includes(name)) this.shut(name, feed);
    if (!names.includes(this.chosen)) this.choose(names[0] ?? "");
    $("camera-none").hidden = names.length > 0 && Boolean(this.feeds.get(this.chosen)?.url);
  }

  open(name) {
    const thumb = el("button", { type: "button", className: "thumb" }, el("img", { alt: "" }), el("span", {}, name));
    thumb.setAttribute("aria-label", `Show camera ${name} large`);
    thumb.addEventListener("click", () => this.choose(name));
    const feed = { name, number: -1, url: "", thumb, running: true };
    this.feeds.set(name, feed);
    $("camera-others").append(thumb);
    this.follow(feed);
  }

  shut(name, feed) {
    feed.running = false;
    feed.thumb.remove();
    URL.revokeObjectURL(feed.url);
    this.feeds.delete(name);
  }

  choose(name) {
    this.chosen = name;
    sessionStorage.setItem("understudy-camera", name);
    for (const feed of this.feeds.values()) feed.thumb.hidden = feed.name === name || this.feeds.size < 2;
    const feed = this.feeds.get(name);
    const figure = $("camera-main");
    figure.querySelector("figcaption").textContent = name;
    figure.querySelector("img").alt = name ? `camera ${name}` : "";
    if (feed?.url) figure.querySelector("img").src = feed.url;
    else figure.querySelector("img").removeAttribute("src");
  }

  async follow(feed) {
    while (feed.running) {
      const began = performance.now();
      const come = this.looking() ? await this.fetch(feed) : false;
      const spent = performance.now() - began;
      const pause = come ? Math.max(0, SOONEST_MS - spent) : come === null ? 0 : AGAIN_MS;
      await new Promise((done) => setTimeout(done, pause));
    }
  }

  // True for a new picture, null when none came in time, false when something is wrong.
  async fetch(feed) {
    try {
      const answer = await fetch(`/api/picture/${encodeURIComponent(feed.name)}?after=${feed.number}`);
      if (answer.status === 204) return null;
      if (!answer.ok) return false;
      const url = URL.createObjectURL(await answer.blob());
      const before = feed.url;
      feed.number = Number(answer.headers.get("X-Picture"));
      feed.url = url;
      const large = $("camera-main").querySelector("img");
      for (const image of [feed.thumb.querySelector("img"), ...(this.chosen === feed.name ? [large] : [])]) image.src = url;
      // The picture before is still on the screen until this one is decoded.
      if (before) setTimeout(() => URL.revokeObjectURL(before), 1000);
      return true;
    } catch {
      return false;
    }
  }
}
