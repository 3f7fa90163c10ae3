// Live pictures: two beside each other and equally high; or one large and the others small, where a click chooses.

import { $, el } from "./dom.js";

const SOONEST_MS = 60;
const AGAIN_MS = 500;

export class Cameras {
  constructor() {
    this.feeds = new Map();
    this.chosen = sessionStorage.getItem("understudy-camera") ?? "";
    this.large = sessionStorage.getItem("understudy-camera-large") === "true";
    $("camera-large").addEventListener("click", () => this.enlarge(!this.large));
  }

  show(names, looking) {
    this.looking = looking;
    for (const name of names) if (!this.feeds.has(name)) this.open(name);
    for (const [name, feed] of this.feeds) if (!names.includes(name)) this.shut(name, feed);
    const chosen = names.includes(this.chosen) ? this.chosen : (names[0] ?? "");
    if (chosen !== this.main) this.choose(chosen);
    $("camera-none").hidden = names.length > 0 && Boolean(this.feeds.get(this.chosen)?.url);
  }

  open(name) {
    const thumb = el("button", { type: "button", className: "thumb" }, el("img", { alt: "" }), el("span", {}, name));
    thumb.setAttribute("aria-label", `Show camera ${name} large`);
    thumb.addEventListener("click", () => {
      this.choose(name);
      this.enlarge(true);
    });
    const feed = { name, number: -1, url: "", thumb, running: true, ratio: 4 / 3 };
    const small = thumb.querySelector("img");
    small.addEventListener("load", () => {
      const ratio = small.naturalWidth / small.naturalHeight;
      if (ratio === feed.ratio) return;
      feed.ratio = ratio;
      this.layOut();
    });
    this.feeds.set(name, feed);
    $("camera-others").append(thumb);
    this.layOut();
    this.follow(feed);
  }

  shut(name, feed) {
    feed.running = false;
    feed.thumb.remove();
    URL.revokeObjectURL(feed.url);
    this.feeds.delete(name);
    this.layOut();
  }

  enlarge(large) {
    this.large = large;
    sessionStorage.setItem("understudy-camera-large", String(large));
    this.layOut();
  }

  // Two pictures share the width as their proportions are, and so are equally high.
  layOut() {
    const two = this.feeds.size === 2;
    $("cameras").classList.toggle("pair", two && !this.large);
    $("camera-large").hidden = !two;
    $("camera-large").textContent = this.large ? "Show both" : "Enlarge";
    for (const feed of this.feeds.values()) {
      const main = feed.name === this.chosen;
      feed.thumb.hidden = main || this.feeds.size < 2;
      $(main ? "camera-main" : "camera-others").style.setProperty("--ratio", feed.ratio);
    }
  }

  choose(name) {
    this.chosen = this.main = name;
    sessionStorage.setItem("understudy-camera", name);
    const feed = this.feeds.get(name);
    const figure = $("camera-main");
    figure.querySelector("figcaption").textContent = name;
    figure.querySelector("img").alt = name ? `camera ${name}` : "";
    if (feed?.url) figure.querySelector("img").src = feed.url;
    else figure.querySelector("img").removeAttribute("src");
    this.layOut();
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
