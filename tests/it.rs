mod cli;
mod mount;
mod point;
