"""HTML reports: a page about one reply under several interventions, and a study of the embedded model on drawn scenes.

In reading order:

- `reply_view`: a `Variant` of a model, and `ReplyView`, one reply with what a single pass over it gives;
- `labels`: which tokens of a reply name an object that is in the scene;
- `exam`: questions about scenes, asked under a variant and scored;
- `scene_reply`: replies to scenes whose objects are known, and the attention sinks that they have in common;
- `collect`: `compare_replies` and `collect_study` gather everything that the two pages show;
- `reply_page` and `packing`: the page about one reply; `study_tables`, `study_figures`, `study_page`: the page about a study;
- `write`: `write_comparison` and `write_study` write the files.
"""
