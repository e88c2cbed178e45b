// Shows parts of a page anew: every element with data-refresh="SECONDS" is replaced by the server's next one of
// the same id, until the server sends one without. Pages work without it: reload them.
"use strict";

const PAUSE_AFTER_FAULT_S = 15;

async function refresh(part) {
  if (document.hidden || part.contains(document.activeElement)) return schedule(part);
  try {
    const response = await fetch(location.href, { headers: { "X-Sonant-Refresh": "1" } });
    if (response.status === 401) return location.reload();
    if (!response.ok) return schedule(part, PAUSE_AFTER_FAULT_S);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const next = page.getElementById(part.id);
    if (!next) return undefined;
    part.replaceWith(next);
    return schedule(next);
  } catch {
    return schedule(part, PAUSE_AFTER_FAULT_S);
  }
}

function schedule(part, seconds = Number(part.dataset.refresh)) {
  if (seconds > 0) setTimeout(refresh, 1000 * seconds, part);
}

// On a narrow screen the navigation is a row that scrolls.
document.querySelector("nav.pages [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
document.querySelectorAll("[data-refresh]").forEach((part) => schedule(part));
