def test_grids_follow_the_tiles_and_the_thumbnail(check_grids):
    check_grids("internvl", [(112, 112)], [(120, 50)], [(45, 150)], [(200, 120)], [(9, 13)])


def test_grid_of_an_image_that_is_not_cut(check_grids, tiny, monkeypatch):
    processor = tiny("internvl")[1]
    monkeypatch.setattr(processor, "images_kwargs", {"crop_to_patches": False}, raising=False)
    check_grids("internvl", [(120, 50)])


def test_grids_of_two_images(check_grids):
    check_grids("internvl", [(120, 50), (33, 60)])


def test_model(check_model):
    check_model("internvl")
