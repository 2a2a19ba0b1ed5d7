// What the page should look like is described with `h`; `show` changes what differs and leaves alone what does
// not: focus, selection and scrolling stay where they are. Texts become text nodes, never HTML.

const SVG = "http://www.w3.org/2000/svg";
const KEY = Symbol("key");
const BEFORE = Symbol("attributes shown");

/** An element: attributes (`on...` are handlers, `--...` are CSS variables, `key` tells siblings apart), children. */
export function h(tag, attributes, ...children) {
  return { tag, attributes: attributes ?? {}, children: flat(children) };
}

/** Make `children` the content of the element `parent`. */
export function show(parent, ...children) {
  const focused = document.activeElement;
  fill(parent, flat(children), parent.namespaceURI === SVG);
  if (focused !== document.activeElement && focused?.isConnected) focused.focus();
}

function flat(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false && child !== "")
    .map((child) => (typeof child === "object" ? child : String(child)));
}

function fill(parent, children, inSvg) {
  const wanted = new Set(children.map(keyOf).filter((key) => key !== undefined));
  const known = new Map();
  for (const node of [...parent.childNodes]) {
    if (node[KEY] === undefined) continue;
    if (wanted.has(node[KEY])) known.set(node[KEY], node);
    else node.remove();
  }
  let cursor = parent.firstChild;
  for (const child of children) {
    const node = matching(child, cursor, known) ?? create(child, inSvg);
    if (node === cursor) cursor = cursor.nextSibling;
    else parent.insertBefore(node, cursor);
    update(node, child);
  }
  while (cursor) {
    const next = cursor.nextSibling;
    cursor.remove();
    cursor = next;
  }
}

function keyOf(child) {
  return child.attributes?.key;
}

function matching(child, cursor, known) {
  if (typeof child === "string") return cursor?.nodeType === Node.TEXT_NODE ? cursor : null;
  const key = keyOf(child);
  const node = key === undefined ? cursor : known.get(key);
  const fits = node?.nodeType === Node.ELEMENT_NODE && node[KEY] === key;
  return fits && node.localName === child.tag ? node : null;
}

function create(child, inSvg) {
  if (typeof child === "string") return document.createTextNode(child);
  const svg = inSvg || child.tag === "svg";
  const node = svg ? document.createElementNS(SVG, child.tag) : document.createElement(child.tag);
  node[KEY] = keyOf(child);
  node[BEFORE] = {};
  return node;
}

function update(node, child) {
  if (typeof child === "string") {
    if (node.data !== child) node.data = child;
    return;
  }
  const before = node[BEFORE] ?? {};
  for (const name of Object.keys(before)) if (!(name in child.attributes)) set(node, name, null);
  for (const [name, value] of Object.entries(child.attributes)) {
    if (name !== "key" && before[name] !== value) set(node, name, value);
  }
  node[BEFORE] = child.attributes;
  fill(node, child.children, node.namespaceURI === SVG);
}

function set(node, name, value) {
  if (name.startsWith("on")) node[name] = value;
  else if (name.startsWith("--")) node.style.setProperty(name, value);
  else if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : value);
  // Browsers heed it only for what is there when a page is loaded.
  if (name === "autofocus" && value && document.activeElement === document.body) node.focus();
}
