"""Which changes of a recipe reach more AP in the same minutes."""
