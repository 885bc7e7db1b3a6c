"use strict";

// Data from chats becomes text nodes or one of a fixed list of properties, never HTML.

const $ = (id) => document.getElementById(id);
const state = { bot: { commands: [] }, chats: [], open: null, drafts: new Map() };
const SAFE_LINK = /^(https?|tg|mailto|tel):/i;
const TAGS = {
  bold: "strong", italic: "em", underline: "u", strikethrough: "s", code: "code", pre: "pre",
  blockquote: "blockquote", expandable_blockquote: "blockquote",
};

function element(tag, properties = {}, ...children) {
  const created = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") created.setAttribute(name, value);
    else created[name] = value;
  }
  created.append(...children);
  return created;
}

async function call(path, body) {
  const request = body === undefined ? {} : { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  const response = await fetch("/control" + path, request);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error || answer.description || response.statusText);
  return answer;
}

function toast(text, isAlert = false) {
  const shown = element("div", { className: isAlert ? "toast alert" : "toast", textContent: text });
  $("toasts").append(shown);
  setTimeout(() => shown.remove(), isAlert ? 7000 : 4000);
}

const attempt = (action) => action().catch((error) => toast(error.message, true));
const nameOf = (chat) => chat.title || chat.first_name;
const formatTime = (date) => new Date(date * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
const formatDay = (date) => new Date(date * 1000).toLocaleDateString([], { day: "numeric", month: "long" });

function membershipNote(chat) {
  if (["member", "administrator"].includes(chat.status)) return "";
  if (chat.status === "restricted") return "the bot may not write";
  if (chat.type === "private") return "blocked the bot";
  return chat.status === "kicked" ? "the bot was removed" : "the bot is not here";
}

function paintAvatar(avatar, chat) {
  avatar.className = `avatar hue-${Math.abs(chat.id) % 7}`;
  avatar.textContent = [...nameOf(chat)][0].toUpperCase();
  return avatar;
}

// Formatted text

function formatText(text, entities) {
  const fragment = document.createDocumentFragment();
  const ordered = [...entities].sort((a, b) => a.offset - b.offset || b.length - a.length);
  fill(fragment, text, 0, text.length, ordered);
  return fragment;
}

function fill(parent, text, start, end, entities) {
  let at = start;
  for (let i = 0; i < entities.length; i++) {
    const entity = entities[i];
    const first = Math.max(entity.offset, at);
    const last = Math.min(entity.offset + entity.length, end);
    if (first >= last) continue;
    parent.append(text.slice(at, first));
    const inner = entities.slice(i + 1).filter((other) => other.offset < last);
    const piece = entityElement(entity, text.slice(first, last));
    fill(piece, text, first, last, inner);
    parent.append(piece);
    at = last;
  }
  parent.append(text.slice(at, end));
}

function entityElement(entity, covered) {
  if (TAGS[entity.type]) return element(TAGS[entity.type]);
  if (entity.type === "spoiler") return element("span", { className: "spoiler", tabIndex: 0 });
  if (entity.type === "bot_command") return element("button", { className: "command", type: "button", onclick: () => suggest(covered) });
  if (entity.type === "text_link" && SAFE_LINK.test(entity.url)) {
    return element("a", { href: entity.url, target: "_blank", rel: "noopener noreferrer", title: entity.url });
  }
  return element("span");
}

function suggest(text) {
  $("text").value = text + " ";
  $("text").focus();
}

// List of chats

function paintChats() {
  const ordered = [...state.chats].sort((a, b) => (b.last_message?.date ?? 0) - (a.last_message?.date ?? 0));
  const entries = ordered.map((chat) => {
    const last = chat.last_message;
    const note = membershipNote(chat);
    return element(
      "button",
      { className: "entry", type: "button", "aria-current": String(chat.id === state.open), onclick: () => openChat(chat.id) },
      paintAvatar(element("span", { "aria-hidden": "true" }), chat),
      element(
        "span", { className: "preview" },
        element("span", { className: "top" }, element("b", { textContent: nameOf(chat) }), element("time", { textContent: last ? formatTime(last.date) : "" })),
        element("div", { className: note ? "last inactive" : "last", textContent: note || (last ? last.text.replaceAll("\n", " ") : "No messages yet") }),
      ),
    );
  });
  $("chats").replaceChildren(...(entries.length ? entries : [element("p", { textContent: "There are no chats yet. Create a person or a group, and write to the bot." })]));
}

function paintBot() {
  const { username, is_listening, pending_updates } = state.bot;
  const pending = pending_updates ? `, ${pending_updates} updates wait` : "";
  $("bot").textContent = is_listening ? "The bot is listening" : `The bot is not listening${pending}`;
  $("bot").title = `@${username}`;
  $("commands").replaceChildren(
    ...state.bot.commands.map(({ command, description }) =>
      element("button", { type: "button", textContent: `/${command}`, title: description, onclick: () => suggest(`/${command}`) })),
  );
}

// Open chat

async function openChat(id) {
  if (state.open !== null) state.drafts.set(state.open, $("text").value);
  state.open = id;
  history.replaceState(null, "", id === null ? "#" : `#${id}`);
  document.body.classList.toggle("open", id !== null);
  $("text").value = state.drafts.get(id) || "";
  paintChats();
  await paintChat(true);
  if (id !== null && matchMedia("(min-width: 721px)").matches) $("text").focus();
}

async function paintChat(toEnd = false) {
  const exists = state.chats.some((chat) => chat.id === state.open);
  $("chat").hidden = !exists;
  $("nothing").hidden = exists;
  if (!exists) return;
  const chatId = state.open;
  const { chat, messages } = await call(`/chats/${chatId}/messages`);
  if (chatId !== state.open) return;
  paintAvatar($("chat-avatar"), chat);
  $("chat-name").textContent = nameOf(chat);
  const details = [membershipNote(chat), chat.type, chat.username && `@${chat.username}`, chat.language_code, `id ${chat.id}`];
  $("chat-details").textContent = details.filter(Boolean).join(" · ");
  $("membership").replaceChildren(...membershipButtons(chat));
  paintWriters(chat);
  const list = $("messages");
  const wasAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
  const opened = new Set([...list.querySelectorAll("details[open]")].map((detail) => detail.dataset.id));
  let day = "";
  list.replaceChildren();
  for (const message of messages) {
    if (formatDay(message.date) !== day) list.append(element("li", { className: "day", textContent: (day = formatDay(message.date)) }));
    list.append(messageItem(chat, message, messages, opened));
  }
  if (toEnd || wasAtEnd) list.scrollTop = list.scrollHeight;
}

function membershipButtons(chat) {
  const change = (label, status, className = "") =>
    element("button", { type: "button", className, textContent: label, onclick: () => attempt(() => call(`/chats/${chat.id}/membership`, { status, ...selectedWriter(chat) })) });
  const isGone = ["left", "kicked"].includes(chat.status);
  if (chat.type === "private") return [!isGone ? change("Block", "kicked", "danger") : change("Unblock", "member")];
  return [!isGone ? change("Kick the bot", "kicked", "danger") : change("Add the bot", "member")];
}

function paintWriters(chat) {
  const people = state.chats.filter((other) => other.type === "private");
  const isGroup = chat.type !== "private";
  $("writer").hidden = !isGroup || !people.length;
  const chosen = $("writer").value;
  $("writer").replaceChildren(...people.map((person) => element("option", { value: person.id, textContent: nameOf(person) })));
  if (people.some((person) => String(person.id) === chosen)) $("writer").value = chosen;
}

function selectedWriter(chat) {
  if (chat.type === "private") return {};
  const person = state.chats.find((other) => String(other.id) === $("writer").value) || state.chats.find((other) => other.type === "private");
  if (!person) return {};
  const { id, first_name, username, language_code } = person;
  return { from: { id, first_name, username, language_code } };
}

function messageItem(chat, message, messages, opened) {
  const bubble = element("div", { className: "bubble" });
  if (chat.type !== "private" && message.direction === "to_bot") {
    bubble.append(element("div", { className: "sender", textContent: message.from.first_name }));
  }
  const quoted = messages.find((other) => other.message_id === message.reply_to_message_id);
  if (quoted) bubble.append(element("div", { className: "quoted", textContent: quoted.text }));
  const body = element("div", { className: "body" });
  body.append(formatText(message.text, message.entities));
  bubble.append(body, messageFooter(message, opened));
  const item = element("li", { className: `message ${message.direction}` }, bubble);
  if (message.buttons.length) item.append(keyboardElement(chat, message));
  const press = message.presses.at(-1);
  if (press) {
    const answer = press.answer === null ? "no answer yet" : press.answer.text ? `“${press.answer.text}”` : "answered";
    item.append(element("div", { className: "pressed", textContent: `${press.from.first_name} pressed ${press.callback_data}: ${answer}` }));
  }
  return item;
}

function messageFooter(message, opened) {
  const marks = [message.edit_date && "edited", formatTime(message.date)].filter(Boolean).join(" ");
  const foot = element("div", { className: "foot" });
  if (message.direction === "from_bot") {
    const versions = new Set([...message.edits, message].map((version) => version.original_text));
    const source = element("details", {}, element("summary", { textContent: "as sent" }), element("div", { className: "source", textContent: [...versions].join("\n— edited —\n") }));
    source.dataset.id = message.message_id;
    source.open = opened.has(String(message.message_id));
    foot.append(source);
  }
  foot.append(element("span", { textContent: marks }));
  return foot;
}

function keyboardElement(chat, message) {
  const rows = message.buttons.map((row) => element("div", {}, ...row.map((button) => element("button", {
    type: "button",
    textContent: button.url ? `${button.text} ↗` : button.text,
    title: button.callback_data || button.url || "",
    onclick: () => pressButton(chat, message, button),
  }))));
  return element("div", { className: "keyboard" }, ...rows);
}

function pressButton(chat, message, button) {
  if (button.url) {
    if (SAFE_LINK.test(button.url)) window.open(button.url, "_blank", "noopener,noreferrer");
    return;
  }
  if (!button.callback_data) return;
  attempt(() => call(`/chats/${chat.id}/press`, { message_id: message.message_id, callback_data: button.callback_data, ...selectedWriter(chat) }));
}

// Sending messages and creating chats

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value;
  const chat = state.chats.find((other) => other.id === state.open);
  if (!text.trim() || !chat) return;
  $("text").value = "";
  attempt(() => call(`/chats/${chat.id}/messages`, { text, ...selectedWriter(chat) }));
});

$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("composer").requestSubmit();
  }
});

$("back").addEventListener("click", () => attempt(() => openChat(null)));
$("new-chat").addEventListener("click", () => { $("creator-error").textContent = ""; $("creator").showModal(); });
$("creator-cancel").addEventListener("click", () => $("creator").close());
$("creator-form").addEventListener("change", paintCreator);

function paintCreator() {
  const isPrivate = $("creator-form").elements.type.value === "private";
  for (const part of $("creator-form").querySelectorAll("[data-for]")) part.hidden = (part.dataset.for === "private") !== isPrivate;
}

$("creator-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = Object.fromEntries(new FormData(event.target));
  const username = fields.username || null;
  const isPrivate = fields.type === "private";
  try {
    const chat = await call("/chats", isPrivate
      ? { type: "private", first_name: fields.name, username, language_code: fields.language }
      : { type: fields.type, title: fields.name, username, status: "left" });
    if (!isPrivate) await call(`/chats/${chat.id}/membership`, { status: "member", ...selectedWriter(chat) });
    const start = isPrivate ? "/start" : `/start@${state.bot.username}`;
    if (fields.payload) await call(`/chats/${chat.id}/messages`, { text: `${start} ${fields.payload}`, ...selectedWriter(chat) });
    event.target.reset();
    paintCreator();
    $("creator").close();
    await refresh();
    await openChat(chat.id);
  } catch (error) {
    $("creator-error").textContent = error.message;
  }
});

// Refreshing: one refresh at a time, and another one if something changed meanwhile

let refreshing = null;
let isStale = false;

function refresh() {
  if (refreshing) {
    isStale = true;
    return refreshing;
  }
  refreshing = (async () => {
    do {
      isStale = false;
      [state.bot, { chats: state.chats }] = await Promise.all([call("/bot"), call("/chats")]);
      paintBot();
      paintChats();
      await paintChat();
    } while (isStale);
  })().finally(() => { refreshing = null; });
  return refreshing;
}

const events = new EventSource("/control/events");
events.onopen = () => attempt(refresh);
events.onerror = () => { $("bot").textContent = "connection lost, trying again…"; };
events.onmessage = ({ data }) => {
  const change = JSON.parse(data);
  if (change.kind === "answer" && change.chat_id === state.open && change.text) toast(change.text, change.show_alert);
  if (change.kind !== "action") attempt(refresh);
};

// No event reports that a bot starts or stops polling, so ask periodically.
setInterval(async () => {
  try {
    state.bot = await call("/bot");
    paintBot();
  } catch {
    // The event stream reports a lost connection.
  }
}, 3000);

paintCreator();
attempt(async () => {
  await refresh();
  const chatId = Number(location.hash.slice(1));
  if (state.chats.some((chat) => chat.id === chatId)) await openChat(chatId);
});
