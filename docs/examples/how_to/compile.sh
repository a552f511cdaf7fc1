#!/bin/sh
# compile.sh SOURCE.bpf.c OBJECT: run in the directory that has bpf/.
clang -target bpf -O2 -g -mcpu=v2 -Wall -Ibpf -I/usr/include/"$(uname -m)"-linux-gnu -c "$1" -o "$2"
