create table if not exists employee (
    id bigint primary key,
    department varchar(255) not null,
    revision bigint not null,
    version bigint not null
);
