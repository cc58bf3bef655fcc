"""The tables of docs/MODELS.md: one for each version of ComfyUI, and nothing else is touched."""

from make_models_table import DOC, END, markdown, section, with_table


def test_a_version_s_table_is_replaced_and_the_others_stay():
    text = with_table(f"# Models\n\n{END}", "0.3.75", "first")
    text = with_table(text, "0.33.0", "other")
    again = with_table(text, "0.3.75", "second")
    assert "first" not in again
    assert again.count("second") == again.count("other") == 1
    assert again.startswith("# Models\n")
    assert again.endswith(END)


def test_the_page_has_a_place_for_it():
    assert DOC.read_text("utf-8").count(END) == 1


def test_what_was_not_measured_stays_empty():
    assert markdown({"SD3": {"velocity": 0.0, "layers": [7, 13, 24]}}).splitlines()[-1] == (
        "| SD3 | 0 |  |  |  | 7 / 13 / 24 |  |  |"
    )


def test_classes_with_one_reason_share_a_line():
    made = section({"comfyui": "0.33.0", "rows": {}, "left_out": {"A": "sound", "B": "depth", "C": "sound"}})
    assert made.startswith("### ComfyUI 0.33.0\n")
    assert made.splitlines()[-2:] == ["- A, C: sound", "- B: depth"]
