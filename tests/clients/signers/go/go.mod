module probe

go 1.19

require countersign v0.0.0

replace countersign => ../../../../clients/go
