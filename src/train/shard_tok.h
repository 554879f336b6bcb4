/* shard_tok.h - which tokenizer ids are of. */
#ifndef TRAIN_SHARD_TOK_H
#define TRAIN_SHARD_TOK_H
#include "base/hash.h"
#include "text/tokenizer.h"

/* SHA-256 over all tokens, of control tokens that they are some: the same for one vocabulary in any
 * container, whatever its BOS and EOS are. What shards keep as shard_info.tokenizer, and loader_opt.tokenizer is compared with. */
int shard_tokenizer(const tokenizer *t, char hex[HASH_HEX], dr_err *e);
/* The id that ends a document of pre-training: <|end_of_text|>, <|endoftext|>, </s> or <eos>, else the
 * tokenizer's EOS; -1: none. A chat model's own EOS often ends a turn instead. */
int32_t shard_end_of_text(const tokenizer *t);
#endif
