"""The race: methods x budgets x data sets. One row is one question: its picture is encoded once, all settings answer.

`data` reads records, `metrics` scores, `settings` says what is compared, `loop` runs it, `folder` is a run on disk,
`table` and `statistics` say which differences are real; `reading`, `chart` and `report` show it. `benchmark` is the
table of `scenes`: the same settings on the shipped worlds by forced answers, without a folder.

A run is a folder:

    manifest.json   what is raced on what, written before the first question (`folder.Manifest`)
    results.jsonl   a line per question that was asked, appended and synced (`folder.Result`):
                    {"key", "row", "id", "group", "picture", "digest", "question", "answers", "choices", "metric", "n",
                    "cells": {setting: {"said", "score", "came_to"} or {"error"}}}; of a row that cannot be asked
                    {"key", "row", "id", "error"}. No two lines have one key.
    progress.json   how far it is, replaced after each question (`folder.Progress`)
    report.html     and table.csv, table.md, table.tex: what came of it, written at its end
    stale.jsonl     lines that no longer count: of records that changed, of errors that were asked again
    stop            somebody wants it to end after the row under way
    lock            held by the process at work; the system frees it when that ends, however it ends

`key` is the identity of a row: the SHA-256 of all that its answers depend on, that is the model's revision, dtype,
attention kernel, pixel limit, every setting with its knobs, the picture's content, of a clip which frames are taken,
and what is asked. To resume is to ask the rows whose key has no result yet. Times stand in progress.json alone, so the
results of the same race are the same lines wherever it ran, in any order.

Read a run: `folder.Run(path)` has `.manifest`, `.state()`, `.results()`; `table.table(run)` says what came of it.
"""
