// Nodes: what is wanted against what there is, each node with its verbs, and what the arbiter decided.

import { askReason } from "./dialog.js";
import { h } from "./dom.js";
import { badge, button, containerLink, facts, note, section, time } from "./parts.js";
import { now, say, silence, state } from "./store.js";
import { table } from "./table.js";
import { bytes, count, duration, many, price } from "./words.js";

const DISPATCH = "arvados/v1/dispatch";
const SHOWN = 200;
const DECISIONS = 50;
const SIZES = [
  ["Size"],
  ["Price per hour", "number"],
  ["Wanted", "number"],
  ["Booting", "number"],
  ["Here", "number"],
  ["Leaving", "number"],
  ["", "wide"],
];
const NODES = [
  ["Node"],
  ["State"],
  ["Size"],
  ["Price per hour", "number"],
  ["Idle", "number"],
  ["Runs"],
  ["", "wide"],
  ["", "verbs"],
];

export function nodes(redraw) {
  const status = state.status;
  if (!status.limits)
    return [
      section(
        "nodes",
        "Nodes",
        note(
          "No nodes are booted here: [Cloud] provider is empty, or the actors are being started.",
        ),
      ),
    ];
  return [
    brake(status),
    section(
      "sizes",
      "Wanted and here",
      table("Sizes of nodes", SIZES, status.sizes.map(sizeRow), "sizes"),
      limits(status),
    ),
    nodeList(status, redraw),
    decisions(status),
  ];
}

function brake(status) {
  const words = status.limits.brake;
  if (!words) return null;
  return h(
    "div",
    { key: "brake", class: "note bad brake", role: "alert" },
    h(
      "p",
      null,
      h("strong", null, "No more nodes are booted: "),
      `too many came to nothing. The last one: ${words}`,
    ),
    verb(
      "Boot again",
      () => say(`${DISPATCH}/brake/release`, {}, "The brake is released: nodes are booted again."),
      "Release the brake: boot nodes again",
    ),
  );
}

function sizeRow(each) {
  const words =
    each.unavailable_seconds === null
      ? ""
      : `cannot be had; asked for again in ${duration(each.unavailable_seconds - silence())}`;
  const kind =
    each.cores === null
      ? "not configured any more"
      : `${many(each.cores, "core")}, ${bytes(each.ram_bytes)}`;
  const name =
    each.instance_type && each.instance_type !== each.size
      ? `${each.instance_type}, ${kind}`
      : kind;
  const spot = each.preemptible ? [" ", badge("spot", "calm")] : "";
  return {
    key: each.size,
    cells: [
      [h("strong", null, each.size), spot, h("small", null, ` ${name}`)],
      price(each.price),
      ...["wanted", "booting", "here", "leaving"].map((part) => number(each[part])),
      words,
    ],
  };
}

function number(value) {
  return h("span", { class: value ? null : "zero" }, count(value));
}

function limits(status) {
  const told = status.limits;
  const { unplaced } = status.wishlist;
  const out = Object.entries(status.boots)
    .filter(([, times]) => times)
    .map(([outcome, times]) => `${count(times)} ${outcome}`);
  return facts([
    ["Nodes", `${count(status.nodes.length)} of ${count(told.max_nodes)}`],
    ["Quota", told.quota === null ? "" : `the cloud allows ${count(told.quota)}`],
    [
      "Price per hour",
      `${price(told.price)}${told.max_total_price ? ` of ${price(told.max_total_price)}` : ""}`,
    ],
    [
      "Containers that wait for a node",
      count(status.wishlist.waiting) +
        (unplaced ? `, for ${count(unplaced)} none may be booted now` : ""),
    ],
    ["Boots so far", out.join(", ") || "none"],
    ["Nothing is decided", told.stale],
  ]);
}

function nodeList(status, redraw) {
  const shown = state.allNodes ? status.nodes : status.nodes.slice(0, SHOWN);
  const left = status.nodes.length - shown.length;
  const showAll = () => {
    state.allNodes = true;
    redraw();
  };
  return section(
    "nodes",
    `Nodes (${count(status.nodes.length)})`,
    state.session.may_change
      ? ""
      : note(
          "Nothing can be changed here: there is no [Manage] ManagementToken in the config file, so there are no operators.",
        ),
    shown.length
      ? table("Nodes", NODES, shown.map(nodeRow), "nodes")
      : note("There are no nodes now. They are booted when containers wait for them."),
    left
      ? h("p", { class: "more" }, button(`Show ${many(left, "more node", "more nodes")}`, showAll))
      : "",
  );
}

function nodeRow(node) {
  const behaves =
    node.behaviour === "run" ? "" : [" ", badge(`operator: ${node.behaviour}`, "warn")];
  const inScheduler =
    node.scheduler_state && node.scheduler_state !== node.phase
      ? h("small", null, ` ${node.scheduler_state} in the scheduler`)
      : "";
  return {
    key: node.name,
    cells: [
      [
        h("strong", { class: "name" }, node.name),
        h(
          "small",
          { class: "uuid" },
          ` ${[node.host === node.name ? "" : node.host, node.cloud_id].filter(Boolean).join(" \u00b7 ")}`,
        ),
      ],
      [badge(node.phase), behaves, inScheduler],
      [
        node.size ?? h("span", { class: "muted" }, "unknown"),
        node.preemptible ? [" ", badge("spot", "calm")] : "",
      ],
      price(node.price),
      node.idle_seconds === null ? "" : duration(node.idle_seconds + silence()),
      runs(node),
      [node.leaving && `leaves: ${node.leaving}`, node.not_ready && `stays: ${node.not_ready}`]
        .filter(Boolean)
        .join("; "),
      verbs(node),
    ],
  };
}

function runs(node) {
  if (!node.running) return "";
  const [first, ...others] = node.containers;
  if (!others.length) return containerLink(first);
  const left = node.running - node.containers.length;
  return h(
    "details",
    null,
    h("summary", null, many(node.running, "container")),
    h(
      "ul",
      { class: "plain" },
      node.containers.map((uuid) => h("li", { key: uuid }, containerLink(uuid))),
      left ? h("li", null, `and ${count(left)} more`) : "",
    ),
  );
}

const VERBS = [
  ["hold", "Hold", "takes no new work and is never shut"],
  ["drain", "Drain", "takes no new work and is shut when it is idle"],
  ["run", "Run", "is like any other again"],
];

function verbs(node) {
  const said = VERBS.filter(([name]) => name !== node.behaviour).map(([name, title, words]) =>
    h(
      "span",
      { key: name },
      verb(
        title,
        () =>
          say(
            `${DISPATCH}/instances/${name}`,
            { instance_id: node.cloud_id || node.name },
            `${node.name} ${words}.`,
          ),
        `${title} ${node.name}: it ${words}`,
      ),
    ),
  );
  return h(
    "div",
    { class: "buttons" },
    said,
    h(
      "span",
      { key: "kill" },
      verb("Kill\u2026", () => kill(node), `Kill ${node.name}`, "danger"),
    ),
  );
}

function verb(title, onclick, label, kind = "") {
  return button(title, onclick, {
    class: kind || null,
    "aria-label": label,
    title: label,
    disabled: !state.session.may_change,
  });
}

async function kill(node) {
  const words = node.running
    ? `${many(node.running, "container runs", "containers run")} there, and will be tried again elsewhere.`
    : "Nothing runs there.";
  const reason = await askReason(
    `Kill ${node.name}?`,
    `The machine is destroyed at once. ${words}`,
    "Kill it",
  );
  if (reason !== null) {
    await say(
      `${DISPATCH}/instances/kill`,
      { instance_id: node.cloud_id || node.name, reason },
      `${node.name} is being destroyed.`,
    );
  }
}

function decisions(status) {
  const made = status.history.slice(-DECISIONS).reverse();
  const rows = made.map((each, index) => {
    const numbers = Object.entries(each.numbers).map(
      ([name, value]) =>
        `${name.replaceAll("_", " ")} ${typeof value === "object" ? JSON.stringify(value) : value}`,
    );
    return {
      key: `${each.at} ${index}`,
      cells: [time(each.at, now()), each.sentence, h("small", null, numbers.join(", "))],
    };
  });
  return section(
    "decisions",
    "What was decided, newest first",
    rows.length
      ? table(
          "Decisions",
          [["When"], ["Decision", "wide"], ["On these numbers", "wide"]],
          rows,
          "decisions",
        )
      : note("Nothing yet."),
  );
}
