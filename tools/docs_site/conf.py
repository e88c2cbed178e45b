"""Settings of Sphinx for the documentation site; `build_site.py` gathers its pages."""

from pathlib import Path

project = "Sonant"
author = "the authors of Sonant"
html_title = "Sonant"
html_theme = "furo"
html_copy_source = html_show_sourcelink = html_show_copyright = False
html_static_path = ["static"]
#: `mermaid.min.js` is there only where `build_site.py` could fetch it; without it diagrams are shown as text.
html_js_files = (
    ["mermaid.min.js", "diagrams.js"]
    if (Path(__file__).parent / "static" / "mermaid.min.js").exists()
    else []
)
extensions = ["myst_parser"]
myst_heading_anchors = 4
pygments_style, pygments_dark_style = "friendly", "monokai"
#: A console block may end in what a program prints.
suppress_warnings = ["misc.highlighting_failure"]
