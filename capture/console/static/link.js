// The page's WebSocket: says hello, tells what the server says, answers wishes with promises, and comes back by itself.

const RETRY_MS = 700;
const PAGE = "understudy-page";
const REPLACED = 4001;

export class Link {
  constructor({ onView, onHello, onGone, onReplaced }) {
    Object.assign(this, { onView, onHello, onGone, onReplaced });
    this.open = false;
    this.aliveMs = 1500;
    this.waiting = new Map();
    this.count = 0;
    this.heardAt = 0;
    setInterval(() => this.look(), 250);
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = (this.socket = new WebSocket(`${scheme}://${location.host}/ws`));
    this.heardAt = performance.now();
    socket.onopen = () => socket.send(JSON.stringify({ do: "hello", page: sessionStorage.getItem(PAGE) ?? "" }));
    socket.onmessage = (event) => socket === this.socket && this.hear(JSON.parse(event.data));
    socket.onclose = (event) => socket === this.socket && this.closed(event);
  }

  hear(message) {
    this.heardAt = performance.now();
    if (message.type === "hello") {
      // Kept over a reload of this tab, so that the page is the same to the server.
      sessionStorage.setItem(PAGE, message.page);
      this.open = true;
      this.aliveMs = message.alive_s * 3000;
      this.onHello(message);
    } else if (message.type === "view") {
      this.onView(message);
    } else if (message.type === "answer") {
      const settle = this.waiting.get(message.n);
      this.waiting.delete(message.n);
      settle?.(message);
    }
  }

  closed(event) {
    this.open = false;
    this.socket = null;
    this.letGo();
    if (event.code === REPLACED) return this.onReplaced();
    this.onGone(event.reason);
    setTimeout(() => this.socket || this.connect(), RETRY_MS);
  }

  // A server that hangs, or a network that is gone, closes nothing: silence tells.
  look() {
    if (!this.socket || performance.now() - this.heardAt < this.aliveMs) return;
    const silent = this.socket;
    this.socket = null;
    silent.close();
    this.closed({ code: 0, reason: "" });
  }

  letGo() {
    for (const settle of this.waiting.values()) settle({ ok: false, text: "The server did not answer." });
    this.waiting.clear();
  }

  say(message) {
    if (this.open && this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  // Resolves to {ok, text}; never rejects.
  ask(message) {
    if (!this.open) return Promise.resolve({ ok: false, text: "The server is gone." });
    const n = ++this.count;
    return new Promise((settle) => {
      this.waiting.set(n, settle);
      this.say({ ...message, n });
    });
  }
}
