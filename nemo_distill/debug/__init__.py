"""The small world of the debug scale: its facts and skills, corpora, tokenizer, questions and teacher."""
