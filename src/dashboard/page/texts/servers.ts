export const servers = {
  title: "Servers and nodes"
};
