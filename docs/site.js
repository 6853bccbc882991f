// Wide tables and blocks scroll by themselves: with the keyboard too.
addEventListener("load", () => document.querySelectorAll(".md-typeset__scrollwrap").forEach((e) => (e.tabIndex = 0)));
