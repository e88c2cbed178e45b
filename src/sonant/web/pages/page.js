// Fills elements with data-value="Operation.Member" from the page's /state, again every five seconds.
"use strict";

async function refresh() {
  const response = await fetch(`${location.pathname}/state`);
  if (response.status === 401) {
    location.assign(`/sign-in?next=${encodeURIComponent(location.pathname)}`);
    return;
  }
  const state = await response.json();
  for (const element of document.querySelectorAll("[data-value]")) {
    const value = element.dataset.value.split(".").reduce((part, name) => part?.[name], state);
    element.textContent = value ?? "-";
  }
  setTimeout(refresh, 5000);
}

refresh();
