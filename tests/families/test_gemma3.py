def test_grid_is_the_squeezed_image(check_grids):
    check_grids("gemma3", [(56, 56)], [(90, 40)], [(41, 97)], [(11, 7)])


def test_grids_of_two_images(check_grids):
    check_grids("gemma3", [(50, 31), (30, 64)])


def test_grids_follow_pan_and_scan(check_grids, tiny, monkeypatch):
    processor = tiny("gemma3")[1]
    panning = {**processor.images_kwargs, "do_pan_and_scan": True, "pan_and_scan_min_crop_size": 30}
    monkeypatch.setattr(processor, "images_kwargs", panning, raising=False)
    check_grids("gemma3", [(131, 44)], [(40, 95)], [(60, 58)], [(120, 50), (40, 40)])


def test_model(check_model):
    check_model("gemma3")
