/* main.c - placeholder until the command table lands */
#include <stdio.h>
int main(void) { puts("drover " DR_VERSION); return 0; }
