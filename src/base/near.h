/* near.h - the word that was meant. */
#ifndef BASE_NEAR_H
#define BASE_NEAR_H

/* Which of n words is the likeliest meant by `word`; NULL: none is near. */
const char *near_miss(const char *word, const char *const *words, int n);
#endif
