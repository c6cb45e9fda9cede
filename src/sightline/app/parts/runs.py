"""Training runs as a table, as lines over one another, their settings side by side, and one of them in full."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st

from sightline.app.catalogue import loaded
from sightline.app.parts.epochs import epochs_chart
from sightline.app.parts.mistakes import worst_pictures
from sightline.app.parts.reporting import read_once, when, whole_page
from sightline.app.parts.words import as_text, sentences
from sightline.app.parts.work import told
from sightline.app.reports import Report, Search
from sightline.app.uploads import belongings, keep, short
from sightline.errors import SightlineError
from sightline.evaluation.mistakes.reading import SavedErrors, read_errors
from sightline.training.reading import TrainingRun, read_training

__all__ = ["compared", "listed", "running", "trained_view"]

_MOST_LAID = 6
_MOST_MODELS = 2
_FILES = ("run.json", "history.csv", "model-card.json")


def listed(found: Search) -> dict[str, TrainingRun]:
    """Return the runs by name; one that cannot be read is a sentence on the page instead."""
    runs: dict[str, TrainingRun] = {}
    for name, report in found.of("training").items():
        try:
            runs[name] = read_training(report.folder)
        except SightlineError as error:
            st.warning(f"{as_text(name)}: {as_text(error)}", icon=":material/error:")
    return runs


def running(found: Search) -> bool:
    """Say whether one of the runs is under way."""
    for report in found.of("training").values():
        try:
            if read_training(report.folder).state == "running":
                return True
        except SightlineError:
            continue  # `listed` says it
    return False


def compared(runs: Mapping[str, TrainingRun]) -> None:
    """Draw the table of all runs, the epochs of some laid over one another, and what differs in their settings."""
    if not runs:
        return
    st.dataframe([_line(name, run) for name, run in runs.items()], hide_index=True, column_config=_COLUMNS, alt="Runs")
    if going := [name for name, run in runs.items() if run.state == "running"]:
        st.caption(f":material/progress_activity: running: {', '.join(map(as_text, going))}; this list follows.")
    options = [name for name, run in runs.items() if run.rows]
    if not options:
        st.caption("No epoch has ended yet.")
        return
    laid = st.multiselect(
        "Runs in the charts",
        options,
        default=options[:1],
        key="runs",
        bind="query-params",
        max_selections=_MOST_LAID,
        placeholder="Choose runs",
    )
    if laid:
        epochs_chart({name: runs[name] for name in laid})
    if len(laid) >= 2:
        _settings({name: runs[name] for name in laid[:2]})


def _line(name: str, run: TrainingRun) -> dict[str, Any]:
    best = run.best
    return {
        "run": name,
        "state": run.ended,
        "model": str(run.settings.get("model") or "a network of one's own"),
        "data": run.data["name"],
        "best": "–" if best is None else str(best.epoch),
        "validation": "–" if best is None else f"{best.val_accuracy:.1%}",
        "test": _test(run),
        "last": when(run.changed),
    }


def _test(run: TrainingRun) -> str:
    result = run.card.get("results", {}).get("test")
    return "–" if result is None else f"{result['accuracy']['share']:.1%}"


_COLUMNS = {
    "best": st.column_config.TextColumn("best epoch"),
    "validation": st.column_config.TextColumn("validation", help="Right on what was held back."),
    "test": st.column_config.TextColumn("test", help="Right on what played no part in the training."),
    "last": st.column_config.TextColumn("last file"),
}


def _settings(runs: Mapping[str, TrainingRun]) -> None:
    """Draw the settings of two runs side by side; what differs stands first and is marked."""
    (one, a), (other, b) = runs.items()
    names = list(dict.fromkeys([*a.settings, *b.settings]))
    rows = [_pair(n, a.settings.get(n), b.settings.get(n), (one, other)) for n in names]
    rows += [_pair("data", a.data["name"], b.data["name"], (one, other))]
    rows.sort(key=lambda row: not row[""])
    differ = sum(bool(row[""]) for row in rows)
    with st.expander(f"Settings of the first two: {differ or 'no'} differ", icon=":material/difference:"):
        st.table(rows, hide_index=True)


def _pair(name: str, a: Any, b: Any, runs: tuple[str, str]) -> dict[str, str]:
    heads = (as_text(runs[0]), as_text(runs[1]))
    return {"": "≠" if a != b else "", "setting": as_text(name), heads[0]: _value(a), heads[1]: _value(b)}


def _value(value: Any) -> str:
    return "–" if value is None else as_text(value)


# --- one run ------------------------------------------------------------------------------------------------


def trained_view(report: Report) -> None:
    """Draw one training in full."""
    run = read_training(report.folder)
    st.markdown(f"**{as_text(run.data['name'])}** · {len(run.data['classes'])} classes · {as_text(run.ended)}")
    if not run.card:
        _unfinished(run)
        return
    _results(run)
    with st.expander("Use this model", icon=":material/terminal:", expanded=True):
        if _takes_series(run):
            st.caption("It takes series: start the app with it, as below, and choose it on the page Signals.")
        elif st.button("Explain with this model", icon=":material/visibility:", type="primary"):
            _explain_with(report)
        _commands(report, *(("SERIES", "SERIES.npz") if _takes_series(run) else ("PHOTO", "PHOTOS")))
    whole_page(report.folder / "report.html", "training", "the full report")
    tabs = st.tabs(["Model card", "Class report", "Worst errors", "Pictures"])
    errors = _errors(report)
    with tabs[0]:
        _card(run)
    with tabs[1]:
        _classes(report, errors)
    with tabs[2]:
        _worst(errors)
    with tabs[3]:
        _pictures(report)


def _unfinished(run: TrainingRun) -> None:
    asked = run.settings.get("epochs")
    if run.state == "broken off":
        st.warning(
            "This training was broken off, or its last files are missing: nothing new has come for longer than its "
            "epochs take. The same command with --resume goes on with it.",
            icon=":material/pause_circle:",
        )
        return
    st.info("It is running; the list above follows it.", icon=":material/progress_activity:")
    if isinstance(asked, int) and asked > 0:
        st.progress(min(1.0, len(run.rows) / asked), f"{len(run.rows)} of at most {asked} epochs")


def _results(run: TrainingRun) -> None:
    with st.container(horizontal=True, gap="medium"):
        for part, result in run.card["results"].items():
            a = result["accuracy"]
            words = (
                "what was held back to choose the best epoch" if part == "validation" else "what played no part in it"
            )
            st.metric(
                f"Right in {part}",
                f"{a['share']:.1%}",
                help=f"{a['right']} of {a['total']}, {words}; 95 % interval {a['low']:.1%} to {a['high']:.1%}.",
            )
        st.metric("Kept epoch", f"{run.card['training']['kept_epoch']} of {len(run.rows)}")
        st.metric("Training took", _duration(float(run.card["training"]["seconds"])))


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )


def _explain_with(report: Report) -> None:
    """Put what was trained among the visitor's models, and go where it is asked; a bundle holds no code."""
    from sightline.app.pages import explain

    with told():
        chosen = loaded(str(report.folder), "default", None)
        name = keep(belongings().models, short(f"run {report.name}"), replace(chosen, private=True), _MOST_MODELS)
        st.session_state["next_model"] = name
        st.switch_page(st.Page(explain.page, default=True), query_params={})


def _takes_series(run: TrainingRun) -> bool:
    return bool(run.card["data"].get("called") == "series")


def _commands(report: Report, one: str, several: str) -> None:
    place = shlex.quote(report.name)
    st.caption("Run these in the folder that the app was started for.")
    st.code(
        f"sightline explain {one} --model {place}\nsightline app --model {place} --reports .\n"
        f"sightline evaluate {several} --model {place} --out trust",
        language="bash",
        wrap_lines=True,
    )


def _card(run: TrainingRun) -> None:
    card = run.card
    model, data = card["model"], card["data"]
    lines = {
        "architecture": model["architecture"],
        "parameters": f"{model['parameters']:,}",
        "input": model["input"],
        "classes": ", ".join(run.data["classes"][:40]),
        "data": f"{run.data['name']}: {', '.join(f'{n} {part}' for part, n in data['images'].items())}",
        "split": data["split"],
        "made": f"{card['made']['date']}, {card['training']['ended']} after {_duration(card['training']['seconds'])}",
        "weights": model["weights_hash"],
    }
    st.table([{"": k, " ": as_text(v)} for k, v in lines.items()], hide_index=True, hide_header=True)
    sentences(card["limits"], "What limits the trust in it")
    sentences(run.notes, "Said in the training")


def _errors(report: Report) -> dict[str, SavedErrors | str]:
    """Return the errors of each part, or a sentence that says why they cannot be read."""
    found: dict[str, SavedErrors | str] = {}
    for part in ("test", "validation"):
        folder = report.folder / part
        if not folder.is_dir():
            continue
        try:
            names = ("errors.json", "predictions.parquet")
            found[part] = read_once("errors", folder, names, partial(read_errors, folder))
        except SightlineError as error:
            found[part] = str(error)
    return found


def _classes(report: Report, errors: Mapping[str, SavedErrors | str]) -> None:
    for part, found in errors.items():
        st.markdown(f"**{part}**")
        if isinstance(found, str):
            st.warning(as_text(found), icon=":material/error:")
            continue
        sentences(found.findings)
        st.dataframe([dict(c) for c in found.classes[:200]], hide_index=True, alt=f"Numbers by class, {part}")
        if st.button("Every wrong answer", key=f"errors-{part}", icon=":material/bug_report:"):
            _open_errors(f"{report.name}/{part}")


def _open_errors(name: str) -> None:
    from sightline.app.pages import errors

    st.session_state["report"] = name
    st.switch_page(st.Page(errors.page, url_path="errors"), query_params={"report": name})


def _worst(errors: Mapping[str, SavedErrors | str]) -> None:
    first = next((e for e in errors.values() if not isinstance(e, str)), None)
    if first is None or not first.worst:
        st.caption("None was explained.")
        return
    worst_pictures(first.worst)


def _pictures(report: Report) -> None:
    shown = {
        "curves.png": "Loss and accuracy by epoch",
        "test/roc.png": "ROC curves, test: how well each class is told from the rest",
        "validation/roc.png": "ROC curves, validation",
    }
    for name, words in shown.items():
        file = report.folder / name
        if file.is_file() and not file.is_symlink():
            st.image(file.read_bytes(), caption=words, alt=words, width="stretch")
