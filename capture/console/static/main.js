// The console's page: joins the link to the server with what is shown and what is pressed.

import { Buttons, meant, wishOf } from "./buttons.js";
import { Cameras } from "./cameras.js";
import { $, put } from "./dom.js";
import { Episodes } from "./episodes.js";
import { Input, buildPads } from "./input.js";
import { Link } from "./link.js";
import { Arm, showBanner, showFindings, showLights } from "./status.js";

const SAID_MS = 6000;
const DOUBLE_MS = 700;
const deaf = new Map(); // wish -> until when it is not heard again, ms
let view = null;
let desk = { controlling: false, asking: [] };
let tab = "session";
let wasGone = false;
let told = { text: "", failed: false, until: 0 };

const link = new Link({ onView: see, onHello: greet, onGone: gone, onReplaced: replaced });
const input = new Input({ link, wish: (name) => wish(meant(name, view)), controls, mayMove });
const buttons = new Buttons($("buttons"), wish);
const cameras = new Cameras();
const arm = new Arm($("joints").querySelector("div"));
const episodes = new Episodes({ ask: (message) => link.ask(message), tell });

function controls() {
  return link.open && desk.controlling;
}

function mayMove() {
  return controls() && tab === "session" && !$("note").open && !document.hidden;
}

function greet(hello) {
  input.use(hello.labels);
  buildPads($("pads"), input);
  $("pads").hidden = hello.labels.length === 0;
  $("gone").hidden = true;
  document.body.classList.remove("is-gone");
  if (wasGone) tell("The server is there again.");
  wasGone = false;
}

function see(message) {
  const before = view?.state;
  view = message.view;
  desk = message.desk;
  input.see(view);
  if (before && before !== "recording" && view.state === "recording" && desk.controlling) show("session");
  if (before === "recording" && view.state !== "recording") told.until = 0; // why the take ended is in the view
  showBanner(view, desk);
  showSaid();
  showControl();
  buttons.show(view, desk.controlling);
  cameras.show(view.cameras, () => tab === "session" && !document.hidden && link.open);
  showFindings(view);
  showLights(view);
  arm.show(view);
  document.body.classList.toggle("watching", !desk.controlling);
  episodes.see(message.library, tab === "episodes", desk.controlling);
}

function showControl() {
  const holder = desk.controller ? `${desk.controller} is in control${desk.controller_gone ? " (gone)" : ""}` : "Nobody is in control";
  const pad = input.gamepad ? " · gamepad" : input.strange ? " · this gamepad cannot be used: not of the standard mapping" : "";
  const you = `You (${desk.name}) are in control${pad}`;
  const asked = desk.asked ? `; asked, ${desk.may_take ? "no answer" : `${Math.ceil(desk.wait_s)} s`}` : "";
  put($("control-words"), desk.controlling ? you : `${holder}; you are ${desk.name} and watch${asked}`);
  $("control-take").hidden = desk.controlling || !desk.may_take;
  $("control-ask").hidden = desk.controlling || desk.may_take || desk.asked;
  $("control-release").hidden = !desk.controlling || desk.pages < 2;
  const asking = desk.controlling && desk.asking.length > 0;
  if (asking) put($("asking-words"), `${desk.asking[0]} asks for control.`);
  $("asking").hidden = !asking;
}

for (const what of ["take", "ask", "release"]) {
  $(`control-${what}`).addEventListener("click", async () => report(await link.ask({ do: what })));
}
for (const what of ["give", "refuse"]) {
  $(`asking-${what}`).addEventListener("click", async () => report(await link.ask({ do: what })));
}

const report = (answer) => tell(answer.text, !answer.ok);

async function wish(name, text = "") {
  if (!name || !view) return;
  if (!desk.controlling && name !== "hold") return tell("This page only watches; take control first.", true);
  if (name === "note" && !text) return writeNote();
  // What cannot be now the session says itself: what this page shows may be a moment old. A double click is one click:
  // what is asked again after a refusal is insisted on, and must be meant.
  if (name !== "hold" && performance.now() < (deaf.get(name) ?? 0)) return;
  deaf.set(name, Infinity);
  const answer = await link.ask({ do: "wish", wish: name, text });
  deaf.set(name, answer.ok ? 0 : performance.now() + DOUBLE_MS);
  report(answer);
}

function writeNote() {
  if (!view.possible.includes("note")) return tell("There is no take to write a note to.", true);
  input.letGo();
  $("note-text").value = "";
  $("note").showModal();
}

$("note").addEventListener("close", () => {
  const text = $("note-text").value.trim();
  if ($("note").returnValue === "add" && text) wish("note", text);
  $("note").returnValue = "";
});

// What this page has to say stands for a while before what the session says last.
function tell(text, failed = false) {
  if (!text) return;
  told = { text, failed, until: performance.now() + SAID_MS };
  showSaid();
}

function showSaid() {
  const own = performance.now() < told.until;
  const failed = own ? told.failed : Boolean(view?.error);
  $("said").classList.toggle("error", failed);
  put($("said"), own ? told.text : view?.error || view?.message || "");
}

function show(name) {
  tab = name;
  location.hash = name === "session" ? "" : name;
  document.body.dataset.tab = name;
  $("session").hidden = name !== "session";
  $("episodes").hidden = name !== "episodes";
  for (const one of ["session", "episodes"]) $(`tab-${one}`).setAttribute("aria-pressed", String(one === name));
  input.letGo();
  if (name === "episodes") {
    episodes.revision = "";
    $("rows").focus();
  }
}

$("tab-session").addEventListener("click", () => show("session"));
$("tab-episodes").addEventListener("click", () => show("episodes"));
window.addEventListener("resize", () => episodes.redraw());

const pressable = (element) => element?.matches("button, a, summary, input");

document.addEventListener("keydown", (event) => {
  if ($("note").open && event.key === "Escape") {
    // At once: the browser's own way closes a moment later, and the next key would still be written.
    event.preventDefault();
    $("note-text").blur(); // a field that is hidden keeps the focus until the next frame
    return $("note").close();
  }
  if (event.ctrlKey || event.metaKey || event.altKey || $("note").open) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if ((key === " " || key === "Enter") && pressable(event.target)) return;
  if (key === "Escape" || key === "h") {
    if (!event.repeat) wish("hold");
    return;
  }
  if (key === "e") {
    if (!event.repeat) show(tab === "session" ? "episodes" : "session");
    return;
  }
  if (tab !== "session") return;
  if (!event.shiftKey && mayMove() && (key !== " " || !event.repeat) && input.press(key)) return event.preventDefault();
  const asked = wishOf(event);
  if (!asked) return;
  event.preventDefault();
  if (!event.repeat) wish(meant(asked, view));
});
document.addEventListener("keyup", (event) => input.lift(event.key.length === 1 ? event.key.toLowerCase() : event.key));

function gone(reason) {
  wasGone = true;
  input.letGo();
  document.body.classList.add("is-gone");
  document.body.dataset.state = "lost";
  document.title = "server gone · Understudy";
  $("gone").hidden = false;
  $("gone-here").hidden = true;
  put($("gone-title"), "The server is gone");
  put($("gone-words"), `${view?.when_gone ?? ""} ${reason ? `${reason} ` : ""}Trying to reach it again …`.trim());
}

function replaced() {
  document.body.classList.add("is-gone");
  $("gone").hidden = false;
  $("gone-here").hidden = false;
  put($("gone-title"), "Open elsewhere");
  put($("gone-words"), "This page was opened again in another tab, which goes on in its place.");
}

$("gone-here").addEventListener("click", () => link.connect());
if (location.hash === "#episodes") show("episodes");
link.connect();
