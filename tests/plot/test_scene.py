"""A scene with its objects' boxes."""

from interp.plot import scene
from interp.world import scenes


def test_every_object_has_its_box_and_name(ax) -> None:
    drawn = scenes("test", 1)[0]
    assert scene(drawn.image, drawn.objects, ax=ax) is ax
    boxes = [(*p.get_xy(), p.get_x() + p.get_width(), p.get_y() + p.get_height()) for p in ax.patches]
    assert boxes == [thing.box for thing in drawn.objects]
    assert [t.get_text() for t in ax.texts] == [thing.name for thing in drawn.objects]
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 64), (64, 0))


def test_the_chosen_objects_stand_out(ax) -> None:
    drawn = scenes("test", 1)[0]
    chosen = drawn.objects[0].name
    scene(drawn.image, drawn.objects, chosen=chosen, ax=ax)
    edges = {thing.name: patch.get_edgecolor() for thing, patch in zip(drawn.objects, ax.patches, strict=True)}
    assert len(set(edges.values())) == (2 if len(edges) > 1 else 1)
    assert all((edge == edges[chosen]) == (name == chosen) for name, edge in edges.items())


def scene_of(index: int):
    drawn = scenes("test", index + 1)[index]
    return drawn.image, drawn.objects


EXAMPLES = {"scene.scene": lambda examples: scene_of(0)}
