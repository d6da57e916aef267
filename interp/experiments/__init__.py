"""What takes more than one pass: experiments on a model, one file each."""
