// Containers by the reason for which they wait; the rows of a group are fetched when it is opened.

import { h } from "./dom.js";
import { badge, button, containerLink, note, numbers, section, time, tone } from "./parts.js";
import { closeGroup, moreRows, now, openGroup, state } from "./store.js";
import { table } from "./table.js";
import { bytes, count, duration, plain, seconds } from "./words.js";

const COLUMNS = [
  ["Reason"],
  ["Containers", "number"],
  ["Longest wait", "number"],
  ["Next attempt", "number"],
];
const ROWS = [
  ["Container"],
  ["State"],
  ["Priority", "number"],
  ["Attempt", "number"],
  ["Wants"],
  ["Age", "number"],
  ["Next attempt", "number"],
  ["Node"],
  ["Last error", "wide"],
];

export function groups() {
  const status = state.status;
  if (!status.work)
    return section(
      "containers",
      "Containers",
      note("Not known: the dispatcher's actors are being started."),
    );
  const content = status.groups.length
    ? table(
        "Containers by the reason for which they wait",
        COLUMNS,
        status.groups.map(groupRow),
        "groups",
      )
    : note("There are no containers: nothing is queued and nothing runs.");
  return section("containers", "Containers, by why they wait", content);
}

function groupRow(group) {
  const isRunning = group.token === "running";
  const isOpen = state.groups.has(group.id);
  const toggle = () => (isOpen ? closeGroup(group.id) : openGroup(group.id));
  const words = group.sentence || (isRunning ? "they run" : "nobody has said yet");
  return {
    key: group.id,
    name: isOpen ? "open" : "",
    cells: [
      h(
        "button",
        { type: "button", class: "expander", "aria-expanded": String(isOpen), onclick: toggle },
        h("span", { class: "chevron", "aria-hidden": "true" }),
        h(
          "span",
          { class: "said" },
          badge(plain(group.token), isRunning ? "good" : tone(group.tier)),
          " ",
          h("span", { class: "sentence" }, words),
        ),
      ),
      [h("small", null, claimed(group)), " ", count(group.containers)],
      isRunning ? "" : age(group.oldest_at),
      due(group.next_attempt_at),
    ],
    after: isOpen ? openedGroup(group, isRunning) : null,
  };
}

function claimed(group) {
  if (group.claimed === group.containers) return "";
  return group.claimed ? `${count(group.claimed)} claimed of` : "queued";
}

function openedGroup(group, isRunning) {
  const open = state.groups.get(group.id);
  const left = group.containers - (open.items?.length ?? 0);
  return [
    group.advice
      ? h("p", { class: "advice" }, h("strong", null, "What helps: "), group.advice)
      : "",
    numbers(group.facts),
    open.trouble ? note(open.trouble, "warn") : "",
    open.items ? rows(group, open.items, isRunning) : h("p", { class: "muted" }, "Fetching\u2026"),
    open.items && left > 0
      ? h(
          "p",
          { class: "more" },
          button("Show 50 more", () => moreRows(group.id)),
          ` ${count(left)} of ${count(group.containers)} are not shown`,
        )
      : "",
  ];
}

function rows(group, items, isRunning) {
  const hidden = new Set(
    isRunning ? ["Next attempt", "Last error"] : items.some((item) => item.node) ? [] : ["Node"],
  );
  const columns = ROWS.filter(([title]) => !hidden.has(title));
  return table(
    `Containers: ${group.sentence || group.token}`,
    columns,
    items.map((item) => {
      const cells = containerCells(item);
      return { key: item.uuid, cells: columns.map(([title]) => cells[title]) };
    }),
    "containers",
  );
}

function containerCells(item) {
  return {
    Container: containerLink(item.uuid),
    State: badge(item.state),
    Priority: count(item.priority),
    Attempt: count(item.attempt),
    Wants: `${count(item.cores)} \u00d7 ${bytes(item.ram_bytes)}${item.gpus ? ` + ${item.gpus} GPU` : ""}`,
    Age: age(item.created_at),
    "Next attempt": due(item.next_attempt_at),
    Node: item.node,
    "Last error": item.error,
  };
}

function age(at) {
  return at ? h("span", { title: at }, duration(now() - seconds(at))) : "";
}

/** When it may be tried again: in how long, and at what time. */
function due(at) {
  if (!at) return "";
  const left = seconds(at) - now();
  return left > 0
    ? h("span", null, `in ${duration(left)} `, h("small", null, time(at, now())))
    : h("span", null, "due");
}
