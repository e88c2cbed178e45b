// Draws the diagrams in the colours of the page.
const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
mermaid.initialize({startOnLoad: true, theme: dark ? "dark" : "neutral", securityLevel: "strict"});
