// A table or a block that scrolls sideways can be reached, and scrolled, with the keyboard.
document$.subscribe(() => {
  for (const each of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code")) {
    each.tabIndex = 0;
  }
});
