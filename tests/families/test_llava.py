from transformers import LlavaImageProcessorPil


def test_grids_follow_the_centre_crop(check_grids):
    check_grids("llava", [(28, 28)], [(90, 40)], [(40, 97)], [(13, 9)], [(50, 31), (30, 64)])


def test_grids_follow_the_padding(check_grids, tiny, monkeypatch):
    processor = tiny("llava")[1]
    size = {"height": 28, "width": 28}
    padding = LlavaImageProcessorPil(do_pad=True, size={"shortest_edge": 28}, crop_size=size)
    monkeypatch.setattr(processor, "image_processor", padding)
    check_grids("llava", [(90, 40)], [(41, 96)])


def test_model(check_model):
    check_model("llava")
