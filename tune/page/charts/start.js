/* Draws what the page has a place for. */

drawFan(byId("fan-plot"));
if (byId("time-plot")) drawTime(byId("time-plot"));
linkTable();
if (byId("parallel-plot")) drawParallel(byId("parallel-plot"));
drawTraining();
if (byId("roc-plot")) drawRoc(byId("roc-plot"));
document.querySelectorAll("table.sortable").forEach(makeSortable);
document.documentElement.dataset.ready = "true";
