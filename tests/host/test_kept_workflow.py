"""The graph that began a run, in its folder."""

import json

import pytest


@pytest.fixture
def kept(modules, host):
    """made(graph, run) -> (a reporter that keeps this graph, the file that it is to write)."""
    module = modules.module("nodes.host.panel.kept")

    def made(graph, run):
        reporter = module.KeptWorkflow()
        reporter._graph = graph
        reporter.begun(run)
        folder = modules.folders.places().runs / run
        folder.mkdir(parents=True)
        return reporter, folder / module.WORKFLOW

    made.module = module
    return made


def test_it_is_written_with_the_first_step_and_once(kept):
    reporter, file = kept({"nodes": ["é"]}, "kept_00001")
    assert not file.exists(), "before the first step a run leaves nothing behind"
    reporter.step(None, 2)
    assert json.loads(file.read_text()) == {"nodes": ["é"]}
    file.unlink()
    reporter.step(None, 2)
    assert not file.exists()


def test_a_resumed_run_keeps_the_first(kept):
    reporter, file = kept({"nodes": [2]}, "kept_00002")
    file.write_text('{"nodes": [1]}')
    reporter.step(None, 2)
    assert json.loads(file.read_text()) == {"nodes": [1]}


def test_one_that_is_too_large_is_not_kept(kept, caplog):
    caplog.set_level("INFO")
    reporter, file = kept({"nodes": ["x" * 8_000_000]}, "kept_00003")
    reporter.step(None, 2)
    assert not file.exists()
    assert "too large" in caplog.text


def test_nothing_is_kept_where_the_host_is_told_so(kept, monkeypatch):
    monkeypatch.setattr(kept.module.queue, "workflow", lambda: {"nodes": []})
    assert kept.module.KeptWorkflow()._graph == {"nodes": []}
    monkeypatch.setattr(kept.module.args, "disable_metadata", True)
    assert kept.module.KeptWorkflow()._graph is None
