"""Decode the pictures and learn the vocabulary, once: `python -m training.prepare`."""

from __future__ import annotations

from training import settings, text
from training.data import read_pixels, read_rows
from training.schedule import save


def main() -> None:
    args, config = settings.parse(__doc__)
    own, words = config["data"], config["text"]
    rows = read_rows(args.data, own["groups"], own["skin_tones"])
    pixels = read_pixels(args.data, rows, own["size"])
    save(args.runs / "pictures.pt", {"pixels": pixels, "rows": rows})
    texts = text.corpus(rows, config["seed"], 10)
    tokenizer = text.train_tokenizer(texts, words["vocabulary"], words["length"])
    tokenizer.save_pretrained(args.runs / "tokenizer")
    print(f"{len(rows)} pictures of {own['size']} px, {len(tokenizer)} tokens in {args.runs}")


if __name__ == "__main__":
    main()
