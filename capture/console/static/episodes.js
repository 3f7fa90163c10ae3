// The dataset's episodes: a list, and for the chosen one its filmstrip, curves, verdict, drop and restore.

import { $, el, put, shape } from "./dom.js";
import { drawPlots } from "./plots.js";
import { counted } from "./status.js";

const PAGE = 200;
const MARKS = { ok: ["light-alive", "ok"], warn: ["light-stale", "warning"], fail: ["light-missing", "fails"] };

export class Episodes {
  // `ask(message)` resolves to {ok, text}; `tell(text, failed)` says it to the operator.
  constructor({ ask, tell }) {
    Object.assign(this, { ask, tell });
    this.offset = 0;
    this.rows = [];
    this.chosen = "";
    this.verdicts = new Map();
    this.revision = "";
    $("rows").addEventListener("keydown", (event) => this.step(event));
    $("older").addEventListener("click", () => this.turn(PAGE));
    $("newer").addEventListener("click", () => this.turn(-PAGE));
    $("check").addEventListener("click", () => this.check());
    $("detail-drop").addEventListener("click", () => this.change("drop_episode"));
    $("detail-restore").addEventListener("click", () => this.change("restore_episode"));
    $("verdict").addEventListener("change", (event) => this.judge(JSON.parse(event.target.value)));
  }

  // Called with every view; fetches again when the dataset has changed and somebody looks.
  see(revision, shown, may) {
    this.may = may;
    for (const id of ["detail-drop", "detail-restore"]) $(id).setAttribute("aria-disabled", String(!may));
    for (const radio of $("verdict").querySelectorAll("input")) radio.disabled = !may;
    if (!shown || revision === this.revision) return;
    this.revision = revision;
    this.load();
  }

  async load() {
    const answer = await fetch(`/api/episodes?offset=${this.offset}`).catch(() => null);
    if (!answer?.ok) return;
    const told = await answer.json();
    this.rows = told.episodes;
    const gone = told.dropped ? `, ${told.dropped} in the trash` : "";
    put($("list-title"), `${counted(told.total)}${gone}`);
    $("older").hidden = !told.more;
    $("newer").hidden = told.offset === 0;
    this.list();
    if (this.rows.some((row) => row.id === this.chosen)) this.facts();
    else if (this.rows.length) this.choose(this.rows[0].id);
    else this.choose("");
  }

  list() {
    $("rows").replaceChildren(...this.rows.map((row) => this.row(row)));
    this.mark();
  }

  row(row) {
    const verdict = row.error ? "cannot be read" : row.dropped ? "dropped" : said(row.success);
    const number = row.dropped ? "trash" : `#${row.number}`;
    const facts = row.error ? row.error : `${row.duration_s.toFixed(1)} s · ${row.steps} steps · ${row.operator}`;
    const checked = this.verdicts.get(row.id);
    const made = el("li", { role: "option", id: `row-${row.id}`, className: row.dropped ? "dropped" : "" },
      el("b", {}, number),
      el("span", { className: "id" }, row.id),
      el("em", { className: String(row.success) }, shape(mark(row)), verdict),
      el("small", {}, facts, checked ? el("strong", {}, shape(MARKS[checked.verdict][0]), ` ${MARKS[checked.verdict][1]}`) : ""));
    made.addEventListener("click", () => this.choose(row.id));
    return made;
  }

  mark() {
    for (const row of $("rows").children) row.setAttribute("aria-selected", String(row.id === `row-${this.chosen}`));
    if (this.chosen) $("rows").setAttribute("aria-activedescendant", `row-${this.chosen}`);
  }

  step(event) {
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -1e9, End: 1e9 }[event.key];
    if (!by || !this.rows.length) return;
    event.preventDefault();
    const now = this.rows.findIndex((row) => row.id === this.chosen);
    const next = this.rows[Math.max(0, Math.min(this.rows.length - 1, now + by))];
    this.choose(next.id);
    document.getElementById(`row-${next.id}`)?.scrollIntoView({ block: "nearest" });
  }

  turn(by) {
    this.offset = Math.max(0, this.offset + by);
    this.load();
  }

  choose(id) {
    const same = id === this.chosen;
    this.chosen = id;
    this.mark();
    $("detail-none").hidden = Boolean(id);
    $("detail-body").hidden = !id;
    if (!id) return;
    this.facts();
    if (!same) {
      clearTimeout(this.soon);
      this.soon = setTimeout(() => this.pictures(), 150);
    }
  }

  facts() {
    const row = this.rows.find((one) => one.id === this.chosen);
    put($("detail-title"), `${row.dropped ? "In the trash" : `Episode ${row.number}`}: ${row.id}`);
    const facts = row.error
      ? [row.error]
      : [`${row.duration_s.toFixed(1)} s`, `${row.steps} steps`, `${row.operator} by ${row.device}`, row.created.replace("T", " "), row.note];
    put($("detail-facts"), facts.filter(Boolean).join(" · "));
    $("detail-drop").hidden = row.dropped;
    $("detail-restore").hidden = !row.dropped;
    $("verdict").hidden = row.dropped || Boolean(row.error);
    for (const radio of $("verdict").querySelectorAll("input")) radio.checked = radio.value === String(row.success);
    const reasons = this.verdicts.get(row.id)?.reasons ?? [];
    $("detail-reasons").replaceChildren(...reasons.map((reason) =>
      el("li", { className: reason.level }, shape(MARKS[reason.level][0]), ` ${reason.check}: ${reason.text}`)));
  }

  // Film and curves; both are made in another process, and come when they are there.
  async pictures() {
    const id = this.chosen;
    const row = this.rows.find((one) => one.id === id);
    $("film").hidden = true;
    $("plots").replaceChildren();
    if (!row || row.dropped || row.error) return put($("film-said"), row?.dropped ? "Restore it to see it." : "");
    put($("film-said"), "The pictures are being drawn …");
    const path = `/api/episodes/${encodeURIComponent(id)}`;
    const curves = await fetch(`${path}/plot`).catch(() => null);
    if (id !== this.chosen) return;
    if (curves?.ok) drawPlots($("plots"), (this.curves = await curves.json()));
    const film = await fetch(`${path}/film`).catch(() => null);
    if (id !== this.chosen) return;
    if (!film?.ok) return put($("film-said"), film ? await film.text() : "The server is gone.");
    const image = $("film");
    URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(await film.blob());
    image.alt = `six pictures of episode ${id}, from its start to its end`;
    image.hidden = false;
    put($("film-said"), "");
  }

  redraw() {
    if (this.curves?.id === this.chosen && !$("detail-body").hidden) drawPlots($("plots"), this.curves);
  }

  async change(what) {
    if (!this.may) return this.tell("This page only watches; take control first.", true);
    const answer = await this.ask({ do: what, episode: this.chosen });
    this.tell(answer.text, !answer.ok);
  }

  async judge(success) {
    const answer = await this.ask({ do: "label", episode: this.chosen, success });
    this.tell(answer.text, !answer.ok);
    if (!answer.ok) this.facts();
  }

  async check() {
    put($("check-said"), "Checking every episode …");
    $("check").setAttribute("aria-disabled", "true");
    const answer = await fetch("/api/check").catch(() => null);
    $("check").setAttribute("aria-disabled", "false");
    if (!answer?.ok) return put($("check-said"), answer ? await answer.text() : "The server is gone.");
    const report = await answer.json();
    this.verdicts = new Map(report.episodes.map((row) => [row.id, row]));
    const counts = `${report.counts.ok} ok, ${report.counts.warn} with a warning, ${report.counts.fail} fail.`;
    put($("check-said"), `${counts} May one train on this? ${report.trainable ? "Yes." : "No."}`);
    $("check-findings").replaceChildren(...report.findings.map((one) => el("li", { className: one.level }, shape(MARKS[one.level][0]), ` ${one.text}`)));
    this.list();
    if (this.chosen) this.facts();
  }
}

const said = (success) => ({ true: "success", false: "failure", null: "not judged" })[String(success)];
const mark = (row) => (row.error ? "light-missing" : { true: "shape-done", false: "shape-lost", null: "shape-idle" }[String(row.success)]);
