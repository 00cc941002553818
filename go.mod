module boxrun

go 1.26
