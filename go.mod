module github.com/helve-serve/helve

go 1.26.0
