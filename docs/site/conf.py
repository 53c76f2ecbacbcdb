"""Settings of Sphinx for the site that `make site` builds. docs/site/pages.py prepares the pages, because they are plain Markdown as GitHub shows it."""

project = "Helve"
author = "The authors of Helve"
copyright = author
html_title = "Helve"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]

# Markdown: headings have the anchors that GitHub gives them, and a link that leads nowhere ends the build (`sphinx-build -W`).
myst_heading_anchors = 4
myst_links_external_new_tab = False
myst_enable_extensions = []

# The Python API comes from the docstrings of the package, which are in Google style.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "undoc-members": False, "exclude-members": "model_config, for_node"}
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 100
add_module_names = False
toc_object_entries_show_parents = "hide"

# Addresses and prompts of commands are not copied with the button.
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True

# The look. No page fetches a file from another host: the fonts are those of the reader's machine.
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["helve.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {
    "top_of_page_buttons": [],
    "light_css_variables": {
        "color-brand-primary": "#0b5c8a",
        "color-brand-content": "#0b5c8a",
        "color-brand-visited": "#0b5c8a",
        "font-stack": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif",
        "font-stack--monospace": "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace",
    },
    "dark_css_variables": {
        "color-brand-primary": "#6cb8e6",
        "color-brand-content": "#6cb8e6",
        "color-brand-visited": "#6cb8e6",
    },
}
pygments_style = "friendly"
pygments_dark_style = "github-dark"


def _plain_docstring(app, what, name, obj, options, lines):
    """Docstrings are plain text with Google's sections: `code` has single backticks, and an indented paragraph is code."""
    import re

    if what in ("property", "attribute") and lines and not lines[0].startswith(":"):  # napoleon takes the text in front of a colon for a type
        lines[0] = re.sub(r"(?<!:): ", " \u2013 ", lines[0], count=1)
    out, indent, code = [], 0, False
    for number, line in enumerate(lines):
        here = len(line) - len(line.lstrip())
        if line.strip() and code and here <= indent:
            code = False
        if line.strip() and not code:
            after_blank = number > 0 and not lines[number - 1].strip()
            if re.fullmatch(r"\s*Examples?:", line):
                line, code, indent = line + ":\n", True, here
            elif after_blank and here > indent and not line.lstrip().startswith(("- ", "* ", ">>>")):
                text = next(above for above in reversed(lines[:number]) if above.strip())
                line, code = line if text.endswith("::") else " " * indent + "::\n\n" + line, True
            else:
                indent = here
        out.append(line)
    text = re.sub(r"(?<![`:\\])`([^`]+)`(?!`)", lambda m: "``" + re.sub(r"\s+", " ", m[1]) + "``", "\n".join(out))
    lines[:] = text.split("\n")


def setup(app):
    app.connect("autodoc-process-docstring", _plain_docstring, priority=400)  # before napoleon, which reads the sections
