"""Methods x budgets x data sets. One row is one question: its picture is encoded once, and all settings answer.

`data` reads records, row by row; `records` says what is wrong with one, `pictures` where its picture lies; `metrics`
scores what is said. `settings` says what is compared and what each setting keeps of a sample that is encoded once.
`benchmark` is the table of `scenes`: the settings on the shipped worlds, by forced answers.
"""
