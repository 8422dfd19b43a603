"""A text that would be markup, or a template, if anything took it for more than a text."""

NASTY = (
    "</p><script>alert(1)</script>\n\"double\" 'single' & &lt; <img src=x onerror=alert(2)> "
    "${alert(3)} {{value}} `${4}` {% x %} {# y #}"
)
