// Draws the page from what `store.js` knows, whenever that changes and once a second for what ages.

import { answers } from "./answers.js";
import { dispatchers } from "./dispatchers.js";
import { h, show } from "./dom.js";
import { groups } from "./groups.js";
import { login } from "./login.js";
import { nodes } from "./nodes.js";
import { button, note } from "./parts.js";
import { plots } from "./plots.js";
import { story } from "./story.js";
import * as store from "./store.js";
import { count, duration } from "./words.js";

const { state } = store;
const $ = (id) => document.getElementById(id);
const VIEWS = [
  ["#/", "Overview"],
  ["#/nodes", "Nodes"],
  ["#/dispatchers", "Dispatchers"],
];

let route = "";
let isDrawn = true;

function draw() {
  if (!isDrawn) return;
  isDrawn = false;
  requestAnimationFrame(() => {
    isDrawn = true;
    drawNow();
  });
}

function drawNow() {
  show($("header"), header());
  show($("main"), content());
  show($("footer"), footer());
  document.documentElement.classList.toggle("is-stale", store.isStale());
  document.title = title();
}

function content() {
  if (!state.session)
    return h(
      "p",
      { class: "muted", key: "first" },
      state.trouble || "Asking the management server\u2026",
    );
  if (!state.session.may_read) return login(draw);
  if (!state.status)
    return h("p", { class: "muted", key: "first" }, state.trouble || "Asking the daemon\u2026");
  return [banner(), h("div", { key: route, class: "view" }, view())];
}

function view() {
  if (route.startsWith("#/containers/")) return story();
  if (route === "#/nodes") return nodes(draw);
  if (route === "#/dispatchers") return dispatchers();
  return [answers(), groups(), plots(draw)];
}

function banner() {
  if (!store.isStale()) return null;
  const why = state.trouble || "nothing has come from the management server";
  return h(
    "div",
    { key: "stale", class: "note bad", role: "alert" },
    h("strong", null, "This is not how things are now. "),
    `${why}; what is shown is ${duration(store.silence())} old. The page tries again by itself.`,
  );
}

function header() {
  const dispatcher = state.status?.dispatcher;
  return [
    h(
      "a",
      { class: "brand", href: "#/" },
      h("img", { src: "page/icon.svg", alt: "", width: "22", height: "22" }),
      h("span", null, "Node manager"),
      dispatcher?.name ? h("small", null, dispatcher.name) : "",
    ),
    state.status ? navigation() : "",
    h(
      "div",
      { class: "tools" },
      state.status ? [finder(), pulse()] : "",
      themeSwitch(),
      state.session?.may_change ? button("Log out", () => store.logOut(), { class: "quiet" }) : "",
    ),
  ];
}

function navigation() {
  const here = (href) =>
    href === "#/" ? route === "#/" || route.startsWith("#/containers") : route === href;
  return h(
    "nav",
    { "aria-label": "Views" },
    VIEWS.map(([href, words]) =>
      h("a", { key: href, href, "aria-current": here(href) ? "page" : null }, words),
    ),
  );
}

function finder() {
  const find = (event) => {
    event.preventDefault();
    const field = event.target.elements.uuid;
    location.hash = `#/containers/${encodeURIComponent(field.value.trim())}`;
    field.value = "";
    field.blur();
  };
  return h(
    "form",
    { class: "finder", role: "search", onsubmit: find },
    h("input", {
      name: "uuid",
      required: true,
      "aria-label": "UUID of a container or a request",
      placeholder: "UUID of a container or request",
      autocomplete: "off",
      spellcheck: "false",
    }),
  );
}

function pulse() {
  const [word, tone] = store.isStale()
    ? [`${duration(store.silence())} old`, "bad"]
    : state.isLive
      ? ["live", "good"]
      : ["connecting", "warn"];
  return h("span", { class: `pulse ${tone}`, id: "pulse" }, word);
}

function themeSwitch() {
  const isDark = window.theme.isDark();
  const toggle = () => {
    window.theme.toggle();
    draw();
  };
  return button(isDark ? "Light" : "Dark", toggle, {
    class: "quiet",
    id: "theme",
    "aria-label": `Change to ${isDark ? "light" : "dark"} colours`,
  });
}

function footer() {
  const status = state.status;
  if (!status) return "";
  return [
    h("span", null, `arvados-node-manager ${status.Version}`),
    h("a", { href: "status.json" }, "status.json"),
  ];
}

function title() {
  const waits = state.status?.work
    ? Object.values(state.status.work.tokens).reduce((sum, each) => sum + each, 0)
    : 0;
  const mark = store.isStale() ? "(!) " : "";
  const name = state.status?.dispatcher?.name ?? "";
  return `${mark}${waits ? `${count(waits)} waiting \u2013 ` : ""}${name ? `${name} \u2013 ` : ""}Node manager`;
}

// What was done, or was not, for eyes and for screen readers.

let quiet = null;

function announce(words, tone) {
  show($("announcer"), h("p", { class: `toast ${tone}` }, words));
  clearTimeout(quiet);
  quiet = setTimeout(() => show($("announcer")), 8000);
}

function follow() {
  const before = route;
  route = location.hash || "#/";
  const uuid = route.startsWith("#/containers/")
    ? decodeURIComponent(route.slice("#/containers/".length))
    : "";
  store.openStory(uuid);
  draw();
  if (before && before !== route) {
    scrollTo(0, 0);
    $("main").focus({ preventScroll: true });
  }
}

async function start() {
  store.begin(draw, announce);
  addEventListener("hashchange", follow);
  $("skip").onclick = (event) => {
    event.preventDefault();
    $("main").focus();
  };
  matchMedia("(prefers-color-scheme: dark)").onchange = draw;
  follow();
  setInterval(() => {
    store.tick();
    if (!document.hidden) draw();
  }, 1000);
  try {
    if (await store.askSession()) store.connect();
  } catch (error) {
    state.trouble = error.message;
    draw();
    setTimeout(() => location.reload(), 5000);
  }
}

start();
